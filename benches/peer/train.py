#!/usr/bin/env python3
"""Train LENS on embedded pairs with PyTorch: the peer that `lens bench train` is measured against.

    pip install -r benches/peer/requirements.txt
    python benches/peer/train.py --json                                      # made-up pairs
    python benches/peer/train.py --arrays seed.safetensors --heldout heldout.safetensors --json

The same model and the same stages as ours, as a careful user of PyTorch would write them: autograd, everything in
memory, batches by `index_select`, both sides of a batch in one forward pass, no copies to wait for.

- Embeddings are standardised per dimension on the seed pairs, once.
- VAE: d -> h ReLU -> mu, log sigma^2 (within +-12), z -> h ReLU -> d; reconstruction (squared error, mean over d, both
  sides added) + beta KL (both sides added) - gamma W2, mean over pairs; Adam.
- Synthesis: for k = ceil(sqrt(F)) - 1 responses a side, 4k candidates mu + s eps, the k most likely under the encoder's
  own Gaussian, decoded and kept in one table with the real embeddings.
- Pairs: F of the (1 + k)^2 combinations within each seed pair, the original one always among them.
- Head: d -> 64 ReLU -> 1, Bradley-Terry, AdamW; `--head-epochs` passes over the N F augmented pairs, in batches of
  `--batch` of them, both embeddings of a pair gathered from the table and scored: the usual implementation. It takes
  F times as many steps an epoch as ours, whose steps cover all F combinations of `--batch` seed pairs. With
  `--batch-of seeds` so do these steps, and each embedding of a step is gathered and scored once: what a user who
  has seen that would write, and as many steps as ours.

The VAE is trained once, then each factor of `--factors` from the same first weights; factor 1 is the seed pairs alone.
All weights begin as PyTorch's linear layers do.

`--arrays` and `--heldout` name safetensors files with `chosen` and `rejected`, [n, d]. Without them the pairs are made
up: 32 latent factors f ~ N(0, I) a response, of which a prompt's two responses share half the variance; a response's
reward is 3 f.w for one fixed unit vector w (the planted preference direction) and the Bradley-Terry model draws which
response is preferred; embeddings are a random linear map of f to d dimensions plus 0.5 N(0, I). 1,000 further pairs
are held out. The time does not depend on the values.

Output (`--json`: one line of JSON):

    dim, pairs, threads, torch, optimiser, batch_of    the job
    standardise_seconds        not in any other figure
    vae_seconds                training of the VAE
    synthesis_seconds          drawing, choosing, decoding, and listing the pairs, by factor
    head_seconds               training of the head by factor; evaluation on held-out pairs is not in it
    vae_cpu_seconds, head_cpu_seconds   processor time of the same, all threads; with `--threads 1` it is steadier on a
                               busy machine than seconds are
    total_seconds              what a factor costs: the head, and for factors above 1 VAE and synthesis
    heldout_log_loss, heldout_accuracy  after the last epoch, by factor (ties count half); null without held-out pairs
    heldout_log_loss_best      the lowest after any epoch
    vae_last                   the terms of the loss in the last epoch, each a mean over pairs
    peak_mb                    the process's largest resident size, data included
    imported_mb                the same before there was any data: Python and PyTorch
"""

import argparse
import json
import math
import os
import resource
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import mse_loss, softplus

LOG_VARIANCE_LIMIT = 12.0
OPTIMISERS = {"fused": dict(fused=True), "foreach": dict(foreach=True), "single": dict(foreach=False, fused=False)}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arrays", type=Path, help="seed pairs: safetensors with chosen and rejected, [n, d]")
    parser.add_argument("--heldout", type=Path, help="held-out pairs, in the same form")
    parser.add_argument("--dim", type=int, default=4096, help="of made-up pairs")
    parser.add_argument("--pairs", type=int, help="made-up pairs (default 1000), or the first so many of the file")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--latent", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--vae-epochs", type=int, default=100)
    parser.add_argument("--vae-learning-rate", type=float, default=1e-3)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--gamma", type=float, default=0.1)
    parser.add_argument("--noise-variance", type=float, default=0.01)
    parser.add_argument("--candidates", type=int, default=4, help="drawn for every one that is kept")
    parser.add_argument("--head-epochs", type=int, default=10)
    parser.add_argument("--batch-of", choices=["pairs", "seeds"], default="pairs",
                        help="what a step of the head covers: augmented pairs, or seed pairs with all of theirs")
    parser.add_argument("--head-hidden", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--weight-decay", type=float, default=0.3)
    parser.add_argument("--factors", type=lambda text: [int(f) for f in text.split(",")], default=[1, 4, 16, 64])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--optimiser", choices=OPTIMISERS, default="fused",
                        help="PyTorch's implementation of Adam; fused is the fastest on a CPU")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.heldout and not options.arrays:
        parser.error("--heldout needs --arrays")
    if min(options.factors) < 1:
        parser.error("--factors are at least 1")
    return options


def made_up(pairs, dim, seed, latents=32):
    """Both sides of pairs with a planted preference direction; see above."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    spread = normal(latents, dim) / math.sqrt(latents)
    direction = nn.functional.normalize(normal(latents), dim=0)
    shared = normal(pairs, 1, latents)
    factors = math.sqrt(0.5) * shared + math.sqrt(0.5) * normal(pairs, 2, latents)
    reward = 3 * factors @ direction
    first_wins = torch.rand(pairs, generator=generator) < torch.sigmoid(reward[:, 0] - reward[:, 1])
    factors = torch.where(first_wins[:, None, None], factors, factors.flip(1))
    return [factors[:, side] @ spread + 0.5 * normal(pairs, dim) for side in (0, 1)]


def load(path):
    arrays = load_file(path)
    chosen, rejected = arrays["chosen"].float(), arrays["rejected"].float()
    assert chosen.ndim == 2 and chosen.shape == rejected.shape, f"{path}: chosen and rejected must both be [n, d]"
    return chosen, rejected


def data(options):
    """Seed pairs and held-out pairs (or None)."""
    if options.arrays:
        seeds = [side[:options.pairs] for side in load(options.arrays)]
        return seeds, load(options.heldout) if options.heldout else None
    pairs = options.pairs or 1000
    sides = made_up(pairs + 1000, options.dim, options.seed)
    return [side[:pairs].clone() for side in sides], [side[pairs:].clone() for side in sides]


class Vae(nn.Module):
    def __init__(self, dim, hidden, latent):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def encode(self, x):
        """mu and log sigma^2, each [n, l]."""
        mu, log_variance = self.encoder(x).chunk(2, dim=1)
        return mu, log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def terms(self, x):
        """Reconstruction, KL and W2 of a batch [2 B, d], the B chosen first: means over pairs, both sides added."""
        pairs = len(x) // 2
        mu, log_variance = self.encode(x)
        sigma = torch.exp(0.5 * log_variance)
        z = torch.addcmul(mu, sigma, torch.randn_like(sigma))
        reconstruction = 2 * mse_loss(self.decoder(z), x)
        kl = 0.5 * (mu.square() + sigma.square() - 1 - log_variance).sum() / pairs
        moments = torch.cat([mu, sigma], dim=1)
        w2 = torch.linalg.vector_norm(moments[:pairs] - moments[pairs:], dim=1).mean()
        return reconstruction, kl, w2


def head_of(dim, hidden):
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))


def train_vae(x, options, epochs):
    """A VAE of the standardised embeddings `x`, [2 n, d] (the n chosen first), and its last epoch's terms."""
    pairs = len(x) // 2
    vae = Vae(x.shape[1], options.hidden, options.latent)
    optimiser = torch.optim.Adam(vae.parameters(), lr=options.vae_learning_rate, **OPTIMISERS[options.optimiser])
    for _ in range(epochs):
        means = torch.zeros(3)
        for rows in torch.randperm(pairs).split(options.batch):
            reconstruction, kl, w2 = vae.terms(x.index_select(0, torch.cat([rows, rows + pairs])))
            loss = reconstruction + options.beta * kl - options.gamma * w2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            means += torch.stack([reconstruction, kl, w2]).detach() * (len(rows) / pairs)
    return vae, dict(zip(("reconstruction", "kl", "w2"), means.tolist()))


def per_side(factor):
    """Synthetic responses a side for an augmentation factor."""
    return math.isqrt(factor - 1)


@torch.inference_mode()
def synthesise(vae, x, factor, options):
    """All responses as one table [2 n (1 + k), d]: the 2 n real ones as in `x`, then k of each of them."""
    k = per_side(factor)
    if k == 0:
        return x
    table = x.new_empty(len(x) * (1 + k), x.shape[1])
    table[:len(x)] = x
    for start in range(0, len(x), 256):
        mu, log_variance = vae.encode(x[start:start + 256])
        noise = math.sqrt(options.noise_variance) * torch.randn(len(mu), k * options.candidates, mu.shape[1])
        # Up to terms that all candidates of a response share.
        likelihood = -(noise.square() * torch.exp(-log_variance)[:, None]).sum(2)
        kept = likelihood.topk(k, dim=1).indices
        z = mu[:, None] + noise.gather(1, kept[:, :, None].expand(-1, -1, mu.shape[1]))
        place = len(x) + start * k
        table[place:place + len(mu) * k] = vae.decoder(z.flatten(0, 1))
    return table


def combinations(pairs, factor):
    """Rows of the table that are compared, [2, n, F]: preferred and not. The original pair always, the rest a draw."""
    side = per_side(factor) + 1
    drawn = torch.rand(pairs, side * side - 1).argsort(dim=1)[:, :factor - 1] + 1
    cells = torch.cat([torch.zeros(pairs, 1, dtype=torch.long), drawn], dim=1)
    copies = torch.stack([cells // side, cells % side])  # copy 0 is the real response
    response = torch.arange(2 * pairs).view(2, pairs, 1)
    synthetic = 2 * pairs + response * (side - 1) + copies - 1
    return torch.where(copies == 0, response, synthetic)


def rewards_of(head, table, rows):
    """Rewards of the rows of the table, [2, m], both embeddings of every pair gathered and scored."""
    return head(table.index_select(0, rows.flatten())).view(2, -1)


def rewards_once(head, table, rows):
    """The same, each embedding gathered and scored once."""
    distinct, place = torch.unique(rows, return_inverse=True)
    return head(table.index_select(0, distinct)).flatten().index_select(0, place.flatten()).view(2, -1)


def train_head(table, compared, options, epochs, heldout=None):
    """Seconds and processor time of training, and log-loss and accuracy on `heldout` ([2 m, d]) after each epoch."""
    torch.manual_seed(options.seed)
    head = head_of(table.shape[1], options.head_hidden)
    optimiser = torch.optim.AdamW(head.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay,
                                  **OPTIMISERS[options.optimiser])
    units = compared if options.batch_of == "seeds" else compared.flatten(1)
    rewards = rewards_once if options.batch_of == "seeds" else rewards_of
    seconds, cpu_seconds, figures = 0.0, 0.0, []
    for _ in range(epochs):
        start, cpu = time.perf_counter(), time.process_time()
        for batch in torch.randperm(units.shape[1]).split(options.batch):
            chosen, rejected = rewards(head, table, units.index_select(1, batch))
            loss = softplus(rejected - chosen).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        seconds += time.perf_counter() - start
        cpu_seconds += time.process_time() - cpu
        if heldout is not None:
            figures.append(evaluate(head, heldout))
    assert torch.isfinite(loss), "the head diverged"
    return seconds, cpu_seconds, figures


@torch.inference_mode()
def evaluate(head, heldout):
    chosen, rejected = head(heldout).double().view(2, -1)
    margin = chosen - rejected
    return softplus(-margin).mean().item(), ((margin > 0).double() + 0.5 * (margin == 0)).mean().item()


def standardiser(seeds):
    """Mean and reciprocal deviation of every dimension; 0 where a dimension does not vary."""
    deviation, mean = torch.std_mean(torch.cat(seeds).double(), dim=0, correction=0)
    varies = deviation > 1e-6 * mean.abs().clamp(min=1e-12)
    return mean.float(), torch.where(varies, 1 / deviation, 0.0).float()


def peak_mb():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    options = arguments()
    imported_mb = peak_mb()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    seeds, heldout = data(options)
    pairs, dim = seeds[0].shape

    start = time.perf_counter()
    mean, scale = standardiser(seeds)
    x = torch.cat(seeds).sub_(mean).mul_(scale)
    standardise_seconds = time.perf_counter() - start
    del seeds
    heldout = None if heldout is None else torch.cat(list(heldout)).sub_(mean).mul_(scale)

    # Warm-up: a little of everything, so that threads, kernels and allocator are ready.
    vae, _ = train_vae(x[:4 * options.batch], options, 2)
    few = x[:4 * options.batch]
    train_head(synthesise(vae, few, 4, options), combinations(len(few) // 2, 4), options, 1)

    torch.manual_seed(options.seed)
    start, cpu = time.perf_counter(), time.process_time()
    vae, vae_last = train_vae(x, options, options.vae_epochs)
    vae_seconds, vae_cpu_seconds = time.perf_counter() - start, time.process_time() - cpu

    report = dict(
        dim=dim, pairs=pairs, threads=options.threads, torch=torch.__version__, optimiser=options.optimiser,
        batch_of=options.batch_of, standardise_seconds=round(standardise_seconds, 4),
        vae_seconds=round(vae_seconds, 4), synthesis_seconds={}, head_seconds={}, vae_cpu_seconds=round(vae_cpu_seconds, 4),
        head_cpu_seconds={}, total_seconds={}, heldout_log_loss={}, heldout_log_loss_best={}, heldout_accuracy={},
        vae_last={name: round(value, 6) for name, value in vae_last.items()},
    )
    for factor in options.factors:
        torch.manual_seed(options.seed)
        start = time.perf_counter()
        table = synthesise(vae, x, factor, options)
        compared = combinations(pairs, factor)
        synthesis_seconds = time.perf_counter() - start
        head_seconds, head_cpu_seconds, figures = train_head(table, compared, options, options.head_epochs, heldout)
        before = 0.0
        if factor > 1:
            report["synthesis_seconds"][factor] = round(synthesis_seconds, 4)
            before = vae_seconds + synthesis_seconds
        report["head_seconds"][factor] = round(head_seconds, 4)
        report["head_cpu_seconds"][factor] = round(head_cpu_seconds, 4)
        report["total_seconds"][factor] = round(before + head_seconds, 4)
        log_losses = [log_loss for log_loss, _ in figures]
        report["heldout_log_loss"][factor] = round(log_losses[-1], 5) if figures else None
        report["heldout_log_loss_best"][factor] = round(min(log_losses), 5) if figures else None
        report["heldout_accuracy"][factor] = round(figures[-1][1], 5) if figures else None
        del table
    report |= dict(peak_mb=peak_mb(), imported_mb=imported_mb)
    if options.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:22} {value}")


if __name__ == "__main__":
    main()
