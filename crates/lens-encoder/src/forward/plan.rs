//! From token lists to batches: which tokens are computed once for several texts.
//!
//! A batch is a forest of segments. The first tokens that several texts have in common are one
//! segment; what follows hangs below it as segments of their own, whose attention also sees the
//! keys and values of the segments above. Nothing is padded and nothing is approximated: a token's
//! hidden state depends on the tokens before it only, and those are the same.

/// A shared run shorter than this is computed twice instead: splitting has its own cost.
const MIN_SHARED: usize = 16;

/// A run of tokens computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// First row in the batch.
    pub row: usize,
    /// Tokens.
    pub len: usize,
    /// Position of the first token in its text.
    pub pos: usize,
    /// The segment that precedes it in the text.
    pub parent: Option<usize>,
}

/// The tokens that one pass of the model computes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// Runs of rows, in row order; parents come before their children.
    pub segments: Vec<Segment>,
    /// Which text (index into the planned lists) ends with the last token of which segment.
    pub ends: Vec<(usize, usize)>,
    /// Whether the texts are longer than the context before stretching (see
    /// [`crate::ModelSpec::long_from`]).
    pub long: bool,
}

impl Batch {
    /// The segments of a text from its last to its first.
    pub fn chain(&self, segment: usize) -> impl Iterator<Item = &Segment> {
        std::iter::successors(self.segments.get(segment), |s| {
            s.parent.and_then(|p| self.segments.get(p))
        })
    }

    /// The segment and row of the token at a position of the text that ends in `segment`.
    pub fn token_at(&self, segment: usize, position: usize) -> Option<(usize, usize)> {
        let mut at = Some(segment);
        while let Some(i) = at {
            let s = self.segments.get(i)?;
            if position >= s.pos {
                return (position < s.pos + s.len).then(|| (i, s.row + position - s.pos));
            }
            at = s.parent;
        }
        None
    }

    /// Tokens of all texts, shared ones counted for each.
    pub fn tokens_of_texts(&self) -> usize {
        self.ends.iter().flat_map(|(_, s)| self.chain(*s)).map(|s| s.len).sum()
    }
}

/// How texts may be put together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Tokens in a batch, about.
    pub budget: usize,
    /// Whether what texts have in common at their beginning is computed once.
    pub sharing: bool,
    /// Texts longer than this never share with shorter ones.
    pub long_from: Option<usize>,
}

/// Groups the lists into batches of about `budget` tokens. Lists must not be empty; equal ones
/// become one.
///
/// With `sharing` off every text stands alone: for comparison, and for models in which a token
/// sees what comes after it.
pub(crate) fn plan(lists: &[Vec<u32>], rules: Rules) -> Vec<Batch> {
    let is_long = |i: &usize| rules.long_from.is_some_and(|from| lists[*i].len() > from);
    let (long, short): (Vec<usize>, Vec<usize>) = (0..lists.len()).partition(is_long);
    let mut batches = some(lists, short, rules);
    batches.extend(some(lists, long, rules).into_iter().map(|b| Batch { long: true, ..b }));
    batches
}

fn some(lists: &[Vec<u32>], mut order: Vec<usize>, rules: Rules) -> Vec<Batch> {
    // In lexicographic order, texts with a common beginning are neighbours.
    order.sort_unstable_by(|a, b| lists[*a].cmp(&lists[*b]).then(a.cmp(b)));
    // shared[i]: how many first tokens the i-th has in common with the one before it.
    let mut shared = vec![0; order.len()];
    if rules.sharing {
        for i in 1..order.len() {
            shared[i] = common(&lists[order[i - 1]], &lists[order[i]]);
        }
    }
    let mut batches = Vec::new();
    let mut start = 0;
    while start < order.len() {
        let end = cut(lists, &order, &shared, start, rules.budget);
        let mut batch = Batch::default();
        Builder { lists, order: &order, shared: &shared, batch: &mut batch }
            .grow(start, end, 0, None);
        batches.push(batch);
        start = end;
    }
    batches
}

/// Common first tokens, where they are worth a segment of their own.
fn common(a: &[u32], b: &[u32]) -> usize {
    let n = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    if n < MIN_SHARED { 0 } else { n }
}

/// Where the batch that begins at `start` ends: near the budget, and where little is torn apart.
fn cut(
    lists: &[Vec<u32>],
    order: &[usize],
    shared: &[usize],
    start: usize,
    budget: usize,
) -> usize {
    let mut tokens = lists[order[start]].len();
    let mut best = (usize::MAX, start + 1);
    for i in start + 1..order.len() {
        if tokens * 2 >= budget && shared[i] <= best.0 {
            best = (shared[i], i);
        }
        tokens += lists[order[i]].len() - shared[i];
        if tokens > budget {
            return if best.0 == usize::MAX { i } else { best.1 };
        }
    }
    order.len()
}

struct Builder<'a> {
    lists: &'a [Vec<u32>],
    order: &'a [usize],
    shared: &'a [usize],
    batch: &'a mut Batch,
}

impl Builder<'_> {
    /// Adds the texts `from..to` (all with the same first `depth` tokens, which `parent` ends).
    fn grow(&mut self, from: usize, to: usize, depth: usize, parent: Option<usize>) {
        let mut start = from;
        while start < to {
            let mut end = start + 1;
            let mut least = usize::MAX;
            while end < to && self.shared[end] >= depth + MIN_SHARED {
                least = least.min(self.shared[end]);
                end += 1;
            }
            let text = self.order[start];
            if end == start + 1 {
                let segment = self.push(text, depth, self.lists[text].len(), parent);
                self.batch.ends.push((text, segment));
            } else {
                let segment = self.push(text, depth, least, parent);
                // In this order, texts that end with the segment come first.
                let rest = (start..end).find(|i| self.lists[self.order[*i]].len() > least);
                let rest = rest.unwrap_or(end);
                self.batch.ends.extend((start..rest).map(|i| (self.order[i], segment)));
                self.grow(rest, end, least, Some(segment));
            }
            start = end;
        }
    }

    fn push(&mut self, text: usize, from: usize, to: usize, parent: Option<usize>) -> usize {
        let row = self.batch.tokens.len();
        self.batch.tokens.extend_from_slice(&self.lists[text][from..to]);
        self.batch.segments.push(Segment { row, len: to - from, pos: from, parent });
        self.batch.segments.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(batch: &Batch, segment: usize) -> Vec<u32> {
        let mut parts: Vec<&Segment> = batch.chain(segment).collect();
        parts.reverse();
        let mut out = Vec::new();
        for part in parts {
            assert_eq!(part.pos, out.len());
            out.extend_from_slice(&batch.tokens[part.row..part.row + part.len]);
        }
        out
    }

    fn rules(budget: usize, sharing: bool) -> Rules {
        Rules { budget, sharing, long_from: None }
    }

    #[test]
    fn two_answers_share_their_prompt() {
        let prompt: Vec<u32> = (0..100).collect();
        let lists: Vec<Vec<u32>> =
            [vec![1, 2], vec![3]].iter().map(|r| [prompt.clone(), r.clone()].concat()).collect();
        let batches = plan(&lists, rules(2048, true));
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].tokens.len(), 103);
        assert_eq!(batches[0].tokens_of_texts(), 203);
        assert_eq!(plan(&lists, rules(2048, false))[0].tokens.len(), 203);
    }

    #[test]
    fn a_pair_is_not_torn_apart() {
        let lists: Vec<Vec<u32>> = (0..40u32)
            .map(|i| (0..50u32).map(|t| t + 1000 * (i / 2)).chain([i; 5]).collect())
            .collect();
        for batch in plan(&lists, rules(256, true)) {
            assert!(batch.tokens.len() <= 256);
            assert_eq!(batch.ends.len() % 2, 0);
        }
    }

    #[test]
    fn a_text_that_begins_another_costs_nothing() {
        let long: Vec<u32> = (0..60).collect();
        let lists = vec![long.clone(), long[..30].to_vec(), long[..30].to_vec()];
        let batches = plan(&lists, rules(100, true));
        assert_eq!(batches[0].tokens.len(), 60);
        let mut ends = batches[0].ends.clone();
        ends.sort_unstable();
        assert_eq!(ends, [(0, 1), (1, 0), (2, 0)]);
        assert_eq!(batches[0].token_at(1, 29), Some((0, 29)));
        assert_eq!(batches[0].token_at(1, 30), Some((1, 30)));
        assert_eq!(batches[0].token_at(1, 60), None);
    }

    #[test]
    fn long_texts_share_nothing_with_short_ones() {
        let long: Vec<u32> = (0..60).collect();
        let lists = vec![long.clone(), long[..40].to_vec()];
        let batches = plan(&lists, Rules { long_from: Some(50), ..rules(100, true) });
        let sizes: Vec<_> = batches.iter().map(|b| (b.tokens.len(), b.long)).collect();
        assert_eq!(sizes, [(40, false), (60, true)]);
    }

    proptest! {
        #[test]
        fn every_text_is_planned_once_and_whole(
            seeds in prop::collection::hash_set((0u32..4, 0u32..4, 1usize..60, 1usize..40), 1..40),
            budget in 10usize..500,
            sharing: bool,
            distinct: bool,
        ) {
            let mut lists: Vec<Vec<u32>> = seeds
                .into_iter()
                .map(|(a, b, n, m)| {
                    std::iter::repeat_n(a, n).chain(std::iter::repeat_n(b + 4, m)).collect()
                })
                .collect();
            if distinct {
                lists.sort();
                lists.dedup();
            }
            let mut seen = vec![0; lists.len()];
            let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
            for batch in plan(&lists, rules(budget, sharing)) {
                // The estimate while cutting misses shared runs too short to be split off.
                let slack = MIN_SHARED * batch.ends.len();
                prop_assert!(batch.tokens.len() <= budget.max(longest) + slack);
                prop_assert_eq!(
                    batch.segments.iter().map(|s| s.len).sum::<usize>(), batch.tokens.len());
                for (text, segment) in &batch.ends {
                    seen[*text] += 1;
                    prop_assert_eq!(&text_of(&batch, *segment), &lists[*text]);
                }
            }
            prop_assert!(seen.iter().all(|n| *n == 1));
        }
    }
}
