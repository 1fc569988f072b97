//! Counters and gauges of a server, for Prometheus.

use lens_encoder::EncodeStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

type Seconds = Counter<f64, AtomicU64>;

/// How much waits in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct QueueLength {
    /// Texts.
    pub texts: usize,
    /// Tokens, estimated.
    pub tokens: usize,
}

/// Counters, gauges and histograms.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    latency: Family<Route, Histogram>,
    refused: Family<Reason, Counter>,
    rewards: Counter,
    texts: Counter,
    tokens: Counter,
    computed: Counter,
    vanished: Counter,
    panics: Counter,
    encoder_seconds: Seconds,
    batch_texts: Histogram,
    batch_requests: Histogram,
    queue_texts: Gauge,
    queue_tokens: Gauge,
    models: Gauge,
    connections: Gauge,
    memory: Gauge,
}

fn latency() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        60.0, 120.0,
    ])
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let sizes = || Histogram::new(exponential_buckets(1.0, 2.0, 12));
        let mut new = Metrics {
            registry: Registry::with_prefix("lens"),
            requests: Family::default(),
            latency: Family::new_with_constructor(latency),
            refused: Family::default(),
            rewards: Counter::default(),
            texts: Counter::default(),
            tokens: Counter::default(),
            computed: Counter::default(),
            vanished: Counter::default(),
            panics: Counter::default(),
            encoder_seconds: Seconds::default(),
            batch_texts: sizes(),
            batch_requests: sizes(),
            queue_texts: Gauge::default(),
            queue_tokens: Gauge::default(),
            models: Gauge::default(),
            connections: Gauge::default(),
            memory: Gauge::default(),
        };
        let r = &mut new.registry;
        r.register("requests", "Requests answered", new.requests.clone());
        r.register_with_unit(
            "request_duration",
            "From the request's head to the answer",
            Unit::Seconds,
            new.latency.clone(),
        );
        r.register("refused", "Requests without a reward, by reason", new.refused.clone());
        r.register("rewards", "Rewards answered", new.rewards.clone());
        r.register("texts", "Texts embedded", new.texts.clone());
        r.register("tokens", "Tokens of these texts", new.tokens.clone());
        r.register(
            "tokens_computed",
            "Tokens that went through the model: neither shared nor repeated",
            new.computed.clone(),
        );
        r.register(
            "vanished",
            "Requests dropped from the queue because their client had left",
            new.vanished.clone(),
        );
        r.register("encoder_panics", "Calls of an encoder that panicked", new.panics.clone());
        r.register_with_unit(
            "encoder",
            "Time in encoders",
            Unit::Seconds,
            new.encoder_seconds.clone(),
        );
        r.register("batch_texts", "Texts in a call of the encoder", new.batch_texts.clone());
        r.register(
            "batch_requests",
            "Requests in a call of the encoder",
            new.batch_requests.clone(),
        );
        r.register("queue_texts", "Texts that wait", new.queue_texts.clone());
        r.register("queue_tokens", "Tokens that wait, estimated", new.queue_tokens.clone());
        r.register("models", "Reward models loaded", new.models.clone());
        r.register("connections", "Open connections", new.connections.clone());
        r.register_with_unit(
            "memory",
            "Charged for bodies, texts and answers of requests",
            Unit::Bytes,
            new.memory.clone(),
        );
        new
    }

    /// Counts an answered request; `refused` is the code of a refusal.
    pub fn answered(
        &self,
        route: &'static str,
        status: u16,
        refused: Option<&'static str>,
        time: Duration,
    ) {
        self.requests.get_or_create(&Answered { route, status }).inc();
        self.latency.get_or_create(&Route { route }).observe(time.as_secs_f64());
        if let Some(reason) = refused {
            self.refused.get_or_create(&Reason { reason }).inc();
        }
    }

    /// Counts rewards that were answered.
    pub fn rewarded(&self, n: usize) {
        self.rewards.inc_by(n as u64);
    }

    /// Counts requests that were dropped from the queue because their client had left.
    pub fn vanished(&self, n: usize) {
        self.vanished.inc_by(n as u64);
    }

    /// Counts a panic of an encoder.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts a call of an encoder, which had the statistics `before` and `after` it.
    pub fn encoded(
        &self,
        requests: usize,
        texts: usize,
        before: &EncodeStats,
        after: &EncodeStats,
        time: Duration,
    ) {
        self.batch_requests.observe(requests as f64);
        self.batch_texts.observe(texts as f64);
        self.texts.inc_by(texts as u64);
        self.tokens.inc_by(after.tokens.saturating_sub(before.tokens));
        self.computed.inc_by(after.computed.saturating_sub(before.computed));
        self.encoder_seconds.inc_by(time.as_secs_f64());
    }

    /// Counts a connection that was opened (+1) or closed (-1).
    pub fn connection(&self, change: i64) {
        self.connections.inc_by(change);
    }

    /// Everything in the text form that Prometheus reads.
    pub fn text(&self, queues: &[QueueLength], models: usize, memory: usize) -> String {
        let sum = |f: fn(&QueueLength) -> usize| queues.iter().map(f).sum::<usize>() as i64;
        self.queue_texts.set(sum(|l| l.texts));
        self.queue_tokens.set(sum(|l| l.tokens));
        self.models.set(models as i64);
        self.memory.set(memory as i64);
        let mut text = String::new();
        // Writing into memory does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
