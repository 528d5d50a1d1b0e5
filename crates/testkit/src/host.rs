//! The host trait in memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate_core::host::{
    Callout, CalloutId, CalloutNotSent, CounterId, Environment, Expected, GaugeId, Hash, Host,
    PeerCertificate, SharedSetError, SharedUnavailable, SharedValue, Version,
};
use tollgate_core::time::Timestamp;

/// A wall clock that moves when it is told to.
#[derive(Clone)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// A clock that shows this instant.
    pub fn at(instant: Timestamp) -> Self {
        Clock(Arc::new(AtomicU64::new(instant.as_nanos())))
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        self.set(self.now().saturating_add(span));
    }

    /// Steps to any instant, backwards too.
    pub fn set(&self, instant: Timestamp) {
        self.0.store(instant.as_nanos(), Ordering::Relaxed);
    }
}

/// What the workers of one Envoy share: data, counters and the clock.
#[derive(Clone)]
pub struct Process {
    /// The wall clock.
    pub clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    workers: u64,
    callouts: u32,
    data: HashMap<String, (Vec<u8>, NonZeroU32)>,
    writes: u32,
    counters: Vec<(String, u64)>,
    gauges: Vec<(String, u64)>,
}

impl Process {
    /// A process that has just started.
    pub fn new(clock: Clock) -> Self {
        Process {
            clock,
            state: Arc::default(),
        }
    }

    /// Another worker of the process.
    pub fn worker(&self) -> MemoryHost {
        MemoryHost {
            process: self.clone(),
            client_address: Cell::new(Some(IpAddr::from([192, 0, 2, 1]))),
            peer_certificate: RefCell::default(),
            clusters: RefCell::default(),
            callouts: RefCell::default(),
            signatures: RefCell::default(),
            route_name: RefCell::default(),
            environment: RefCell::default(),
            filter_state: RefCell::default(),
            log: RefCell::default(),
            faults: RefCell::default(),
            random: Cell::new(self.next_worker() << 32),
            calls: Cell::new(0),
        }
    }

    /// Numbers the workers, so that each draws random numbers of its own.
    fn next_worker(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.workers = state.workers.wrapping_add(1);
        state.workers
    }

    /// Numbers the callouts.
    fn next_callout(&self) -> u32 {
        let mut state = self.state.lock().unwrap();
        state.callouts = state.callouts.wrapping_add(1);
        state.callouts
    }

    /// The counters and their values, by their full names.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.state
            .lock()
            .unwrap()
            .counters
            .iter()
            .cloned()
            .collect()
    }

    /// The gauges and their values, by their full names.
    pub fn gauges(&self) -> BTreeMap<String, u64> {
        self.state.lock().unwrap().gauges.iter().cloned().collect()
    }

    /// The keys of the shared data.
    pub fn shared_keys(&self) -> Vec<String> {
        self.state.lock().unwrap().data.keys().cloned().collect()
    }

    /// Puts bytes into the shared data, whatever was there.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.state.lock().unwrap().write(key, bytes);
    }
}

impl State {
    fn write(&mut self, key: &str, bytes: &[u8]) {
        // As Envoy: one count for all keys, and never zero.
        self.writes = self.writes.wrapping_add(1).max(1);
        let version = NonZeroU32::new(self.writes).unwrap();
        self.data.insert(key.to_owned(), (bytes.to_vec(), version));
    }
}

/// What goes wrong with the next use of the shared data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another worker writes the entry between reading and writing it.
    LostRace,
    /// The next read fails.
    ReadFails,
    /// The next write fails.
    WriteFails,
}

/// A callout that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub id: CalloutId,
    /// The cluster.
    pub cluster: String,
    /// Scheme, host and path in one.
    pub url: String,
    /// The further headers.
    pub headers: Vec<(String, String)>,
    /// The body; empty for a `GET`.
    pub body: Vec<u8>,
    /// After what time no answer is awaited any longer.
    pub timeout: Duration,
}

/// Checks a signature: the hash, the key's SPKI, the signature and the message.
pub type VerifySignature = dyn Fn(Hash, &[u8], &[u8], &[u8]) -> Option<bool>;

/// One worker of a [`Process`].
pub struct MemoryHost {
    /// What it shares with the others.
    pub process: Process,
    /// The client of the next request; `None` where the host can't tell.
    pub client_address: Cell<Option<IpAddr>>,
    /// The certificate of the next request's client.
    pub peer_certificate: RefCell<Option<PeerCertificate>>,
    /// The clusters that callouts can be sent to.
    pub clusters: RefCell<Vec<String>>,
    /// The callouts that were sent and not taken yet.
    pub callouts: RefCell<VecDeque<Sent>>,
    /// The host's own cryptography, if it has any.
    pub signatures: RefCell<Option<Box<VerifySignature>>>,
    /// The name of the route of the next request.
    pub route_name: RefCell<Option<String>>,
    /// The environment variables.
    pub environment: RefCell<BTreeMap<String, String>>,
    /// The filter state of the request at hand.
    pub filter_state: RefCell<BTreeMap<String, String>>,
    log: RefCell<Vec<(log::Level, String)>>,
    faults: RefCell<VecDeque<Fault>>,
    random: Cell<u64>,
    calls: Cell<u64>,
}

impl MemoryHost {
    /// Injects faults, used up one by one.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.borrow_mut().extend(faults);
    }

    /// What was logged.
    pub fn logged(&self) -> Vec<(log::Level, String)> {
        self.log.borrow().clone()
    }

    /// How many calls of the host were made so far; the clock and the log are not counted.
    pub fn calls(&self) -> u64 {
        self.calls.get()
    }

    fn called(&self) {
        self.calls.set(self.calls.get().saturating_add(1));
    }

    fn fault(&self, kinds: &[Fault]) -> Option<Fault> {
        let mut faults = self.faults.borrow_mut();
        faults.pop_front_if(|fault| kinds.contains(fault))
    }
}

impl Host for MemoryHost {
    fn now(&self) -> Timestamp {
        self.process.clock.now()
    }

    /// SplitMix64: the same numbers at every run.
    fn fill_random(&self, buffer: &mut [u8]) {
        for byte in buffer {
            let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.random.set(state);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = mixed.to_le_bytes()[0];
        }
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.called();
        self.client_address.get()
    }

    fn peer_certificate(&self) -> Option<PeerCertificate> {
        self.called();
        self.peer_certificate.borrow().clone()
    }

    fn verify_signature(
        &self,
        hash: Hash,
        key: &[u8],
        signature: &[u8],
        message: &[u8],
    ) -> Option<bool> {
        self.called();
        let signatures = self.signatures.borrow();
        signatures.as_ref()?(hash, key, signature, message)
    }

    fn call(&self, callout: &Callout<'_>) -> Result<CalloutId, CalloutNotSent> {
        if !self
            .clusters
            .borrow()
            .iter()
            .any(|known| known == callout.cluster)
        {
            return Err(CalloutNotSent);
        }
        let id = CalloutId(self.process.next_callout());
        self.callouts.borrow_mut().push_back(Sent {
            id,
            cluster: callout.cluster.to_owned(),
            url: format!("{}://{}{}", callout.scheme, callout.authority, callout.path),
            headers: callout
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: callout.body.to_vec(),
            timeout: callout.timeout,
        });
        Ok(id)
    }

    fn route_name(&self) -> Option<String> {
        self.called();
        self.route_name.borrow().clone()
    }

    fn shared_get(&self, key: &str) -> Result<Option<SharedValue>, SharedUnavailable> {
        self.called();
        if self.fault(&[Fault::ReadFails]).is_some() {
            return Err(SharedUnavailable);
        }
        let state = self.process.state.lock().unwrap();
        Ok(state.data.get(key).map(|(bytes, version)| SharedValue {
            bytes: bytes.clone(),
            version: Version(*version),
        }))
    }

    fn shared_set(
        &self,
        key: &str,
        value: &[u8],
        expected: Expected,
    ) -> Result<(), SharedSetError> {
        self.called();
        match self.fault(&[Fault::LostRace, Fault::WriteFails]) {
            Some(Fault::WriteFails) => return Err(SharedSetError::Unavailable),
            Some(Fault::LostRace) => return Err(SharedSetError::Conflict),
            _ => {}
        }
        let mut state = self.process.state.lock().unwrap();
        let current = state.data.get(key).map(|(_, version)| *version);
        let as_expected = match (expected, current) {
            (Expected::Absent, current) => current.is_none(),
            (Expected::Version(Version(version)), Some(current)) => version == current,
            // Envoy compares only where there is an entry.
            (Expected::Version(_), None) => true,
        };
        if !as_expected {
            return Err(SharedSetError::Conflict);
        }
        state.write(key, value);
        Ok(())
    }

    fn set_filter_state(&self, key: &str, value: &str) {
        self.called();
        self.filter_state
            .borrow_mut()
            .insert(key.to_owned(), value.to_owned());
    }

    fn counter(&self, name: &str) -> Option<CounterId> {
        self.called();
        let mut state = self.process.state.lock().unwrap();
        metric(&mut state.counters, name).map(CounterId)
    }

    fn increment(&self, CounterId(id): CounterId, by: u64) {
        self.called();
        let mut state = self.process.state.lock().unwrap();
        let (_, value) = state
            .counters
            .get_mut(id as usize)
            .expect("a counter that was defined");
        *value = value.saturating_add(by);
    }

    fn gauge(&self, name: &str) -> Option<GaugeId> {
        self.called();
        let mut state = self.process.state.lock().unwrap();
        metric(&mut state.gauges, name).map(GaugeId)
    }

    fn set_gauge(&self, GaugeId(id): GaugeId, to: u64) {
        self.called();
        let mut state = self.process.state.lock().unwrap();
        let (_, value) = state
            .gauges
            .get_mut(id as usize)
            .expect("a gauge that was defined");
        *value = to;
    }

    fn log(&self, level: log::Level, message: fmt::Arguments<'_>) {
        self.log.borrow_mut().push((level, message.to_string()));
    }
}

/// The place of a metric, a new one if there is none of this name.
fn metric(metrics: &mut Vec<(String, u64)>, name: &str) -> Option<u32> {
    let known = metrics.iter().position(|(known, _)| known == name);
    let place = known.unwrap_or_else(|| {
        metrics.push((name.to_owned(), 0));
        metrics.len().saturating_sub(1)
    });
    u32::try_from(place).ok()
}

impl Environment for MemoryHost {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.borrow().get(name).cloned()
    }
}
