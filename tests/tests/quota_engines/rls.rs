//! The Rate Limit Service protocol over real gRPC, with a server that stands in for two.

use tollgate_calendar::{Calendar, Period, Settings};
use tollgate_quota_store::rls::{
    Call, Descriptor, Finding, Probe, ProbeStep, Profile, Purpose, RateLimitService, Report,
    Status, Verdict,
};
use tollgate_quota_store::{ConsumerTag, StoreError, window_label};
use tollgate_tests::{HttpClient, RlsFault, RlsLimit, RlsPersonality, RlsStandIn, unix_time};

const DOMAIN: &str = "tollgate";

struct Client {
    service: RateLimitService,
    http: HttpClient,
}

impl Client {
    fn new(server: &RlsStandIn, profile: Profile) -> Self {
        Self {
            service: RateLimitService::new(profile, DOMAIN),
            http: HttpClient::http2(server.address()),
        }
    }

    /// The message of the answer, or the status that came instead.
    async fn call(&self, call: &Call) -> Result<Vec<u8>, StoreError> {
        let path = format!("/{}/{}", call.service, call.method);
        let reply = self.http.grpc(&path, &call.message).send().await;
        match reply.grpc_status() {
            Some(0) => Ok(reply.grpc_messages().remove(0).to_vec()),
            Some(status) => {
                let message = reply.grpc_message().unwrap_or_default();
                Err(StoreError::grpc(status, message.as_bytes()))
            }
            None => panic!("no status of gRPC: {reply:?}"),
        }
    }

    async fn say(&self, purpose: Purpose, batch: &[Report]) -> Vec<Result<Status, StoreError>> {
        match self.call(&self.service.encode(purpose, batch)).await {
            Ok(message) => self.service.decode(purpose, batch, &message),
            Err(error) => vec![Err(error); batch.len()],
        }
    }

    async fn probe(&self, limit: u32, period: Period) -> Verdict {
        let window = Calendar::new(Settings::every(period))
            .unwrap()
            .window(unix_time());
        let mut probe = Probe::new(
            self.service.clone(),
            descriptor("probe", window.start),
            limit,
            window,
        );
        let mut call = probe.start();
        loop {
            let answer = self.call(&call).await;
            let answer = answer.as_ref().map(Vec::as_slice).map_err(Clone::clone);
            match probe.answered(unix_time(), answer) {
                ProbeStep::Call(next) => call = next,
                ProbeStep::Done(verdict) => return verdict,
            }
        }
    }
}

fn descriptor(consumer: &str, window_start: i64) -> Descriptor {
    Descriptor {
        plan: "gold".into(),
        quota: "month".into(),
        consumer: ConsumerTag::new("test", consumer),
        period: window_label(window_start).into(),
    }
}

fn report(consumer: &str, hits: u32) -> Report {
    let descriptor = descriptor(consumer, 1_793_491_200);
    Report { descriptor, hits }
}

async fn server(personality: RlsPersonality, requests: u32) -> RlsStandIn {
    let server = RlsStandIn::start(personality, DOMAIN).await;
    let period = Period::Month;
    server.set_limit("gold", "month", RlsLimit { requests, period });
    server
}

fn verdicts(results: Vec<Result<Status, StoreError>>) -> Vec<(bool, Option<u32>)> {
    let verdict = |result: Result<Status, StoreError>| {
        let status = result.unwrap();
        (status.over, status.remaining)
    };
    results.into_iter().map(verdict).collect()
}

#[tokio::test]
async fn equal_descriptors_are_counted_one_by_one() {
    let server = server(RlsPersonality::ENVOY_RATELIMIT, 10).await;
    let client = Client::new(&server, Profile::EnvoyRatelimit);
    let used = client.say(Purpose::Report, &[report("acme", 8)]).await;
    assert_eq!(verdicts(used), [(false, Some(2))]);
    let waiting = vec![report("acme", 1); 4];
    assert_eq!(
        verdicts(client.say(Purpose::Ask, &waiting).await),
        [
            (false, Some(1)),
            (false, Some(0)),
            (true, Some(0)),
            (true, Some(0))
        ]
    );
    let peek = client
        .say(Purpose::Peek, &[report("acme", 5), report("bolt", 5)])
        .await;
    assert_eq!(verdicts(peek), [(true, Some(0)), (false, Some(10))]);
    assert_eq!(server.calls().len(), 3);
}

#[tokio::test]
async fn limitador_counts_nothing_that_does_not_fit() {
    let server = server(RlsPersonality::LIMITADOR, 100).await;
    let client = Client::new(&server, Profile::Limitador);
    let ask = async |hits| verdicts(client.say(Purpose::Ask, &[report("acme", hits)]).await);
    assert_eq!(ask(40).await, [(false, Some(60))]);
    assert_eq!(ask(50).await, [(false, Some(10))]);
    assert_eq!(ask(20).await, [(true, Some(10))]);
    let peek = async || verdicts(client.say(Purpose::Peek, &[report("acme", 9)]).await);
    assert_eq!(peek().await, [(false, None)]);
    let used = client.say(Purpose::Report, &[report("acme", 20)]).await;
    assert_eq!(verdicts(used), [(false, None)]);
    assert_eq!(peek().await, [(true, None)]);
    assert_eq!(ask(1).await, [(true, Some(0))]);
}

#[tokio::test]
async fn a_good_server_passes_the_probe() {
    let envoy = server(RlsPersonality::ENVOY_RATELIMIT, 1000).await;
    let verdict = Client::new(&envoy, Profile::EnvoyRatelimit)
        .probe(1000, Period::Month)
        .await;
    // In the last minute of a month, nothing can be said.
    assert!(
        matches!(verdict, Verdict::Good | Verdict::TryLater),
        "{verdict}"
    );
    let limitador = server(RlsPersonality::LIMITADOR, 1000).await;
    let verdict = Client::new(&limitador, Profile::Limitador)
        .probe(1000, Period::Month)
        .await;
    assert!(
        matches!(verdict, Verdict::Good | Verdict::TryLater),
        "{verdict}"
    );
}

#[tokio::test]
async fn what_would_be_counted_wrongly_is_found() {
    let old = RlsPersonality::EnvoyRatelimit {
        honours_hits: false,
        calendar_months: true,
    };
    let silent = RlsPersonality::Limitador { headers: false };
    for (personality, profile, limit, expected) in [
        (old, Profile::EnvoyRatelimit, 1000, Finding::HitsIgnored),
        (silent, Profile::Limitador, 1000, Finding::RemainingMissing),
        (
            RlsPersonality::ENVOY_RATELIMIT,
            Profile::EnvoyRatelimit,
            999,
            Finding::LimitDiffers {
                ours: 999,
                theirs: 1000,
            },
        ),
    ] {
        let server = server(personality, 1000).await;
        let verdict = Client::new(&server, profile)
            .probe(limit, Period::Month)
            .await;
        let found = verdict == Verdict::Bad(vec![expected]);
        assert!(
            found || verdict == Verdict::TryLater,
            "{expected:?}: {verdict}"
        );
    }
}

#[tokio::test]
async fn windows_that_are_not_ours_are_found() {
    // To the server, a year has 365 days from 1970 on: it ends in ours only in its December, or in
    // that of a year long past.
    let server = RlsStandIn::start(RlsPersonality::ENVOY_RATELIMIT, DOMAIN).await;
    let period = Period::Year;
    let requests = 1000;
    server.set_limit("gold", "month", RlsLimit { requests, period });
    let verdict = Client::new(&server, Profile::EnvoyRatelimit)
        .probe(1000, period)
        .await;
    match verdict {
        Verdict::Bad(findings) => {
            assert!(
                matches!(findings[..], [Finding::WindowDiffers { .. }]),
                "{findings:?}"
            );
        }
        other => assert_eq!(other, Verdict::TryLater),
    }
}

#[tokio::test]
async fn a_plan_without_limit_is_found_in_every_call() {
    let server = RlsStandIn::start(RlsPersonality::ENVOY_RATELIMIT, DOMAIN).await;
    let client = Client::new(&server, Profile::EnvoyRatelimit);
    let results = client.say(Purpose::Report, &[report("acme", 1)]).await;
    assert_eq!(results, [Err(StoreError::NoLimit)]);
    let verdict = client.probe(1000, Period::Month).await;
    assert!(
        matches!(verdict, Verdict::TryLater) || verdict == Verdict::Bad(vec![Finding::NoLimit]),
        "{verdict}"
    );
}

#[tokio::test]
async fn a_server_of_the_other_kind_is_told() {
    let envoy = server(RlsPersonality::ENVOY_RATELIMIT, 10).await;
    let as_limitador = Client::new(&envoy, Profile::Limitador);
    let error = as_limitador
        .say(Purpose::Report, &[report("acme", 1)])
        .await
        .remove(0);
    let error = error.unwrap_err();
    assert!(!error.is_transient());
    assert!(
        error.to_string().contains("of the configured profile?"),
        "{error}"
    );

    let limitador = server(RlsPersonality::LIMITADOR, 10).await;
    let as_envoy = Client::new(&limitador, Profile::EnvoyRatelimit);
    let result = as_envoy.say(Purpose::Report, &[report("acme", 1)]).await;
    assert!(
        matches!(result[0], Err(StoreError::Garbled(_))),
        "{result:?}"
    );
}

#[tokio::test]
async fn faults_are_errors_and_only_a_silent_server_has_counted() {
    let server = server(RlsPersonality::ENVOY_RATELIMIT, 10).await;
    let client = Client::new(&server, Profile::EnvoyRatelimit);
    let batch = [report("acme", 3)];
    server.set_fault(RlsFault::Status(14));
    let unavailable = client.say(Purpose::Report, &batch).await;
    assert!(unavailable[0].as_ref().unwrap_err().is_transient());
    assert!(server.counters().is_empty());

    server.set_fault(RlsFault::Garbled);
    let garbled = client.say(Purpose::Report, &batch).await;
    assert!(matches!(garbled[0], Err(StoreError::Garbled(_))));

    server.set_fault(RlsFault::Frozen);
    let (answered, ()) = tokio::join!(client.say(Purpose::Report, &batch), async {
        tollgate_tests::wait_for("the call to arrive", async || {
            (server.calls().len() == 3).then_some(())
        })
        .await;
        server.set_fault(RlsFault::None);
    });
    assert_eq!(verdicts(answered), [(false, Some(4))]);
    let hits: Vec<u64> = server.counters().into_values().collect();
    assert_eq!(hits, [6]);
}
