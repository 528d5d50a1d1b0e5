//! Nothing of a token, nor of its claims, gets into the log or an answer.

use std::collections::BTreeSet;

use tollgate_testkit::Submitted;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// Pieces that would tell something of these tokens.
fn pieces(tokens: &[String]) -> BTreeSet<String> {
    tokens
        .iter()
        .flat_map(|token| token.split('.'))
        .flat_map(|segment| segment.as_bytes().chunks_exact(16))
        .map(|piece| String::from_utf8(piece.to_vec()).unwrap())
        .collect()
}

#[test]
fn neither_log_nor_answer_repeats_a_token() {
    let plugin = start(&config(
        json!({ "payload_header": "x-payload", "token": { "headers": "authorization", "query": "jwt" } }),
        with(
            published(json!({})),
            json!({ "claims_to_headers": [
                { "claim": "sub", "header": "x-subject" },
                { "claim": "name", "header": "x-name" },
            ] }),
        ),
    ));
    const SECRET: &str = "alice-in-wonderland";
    let tokens = [
        token(json!({ "sub": SECRET })),
        token(json!({ "sub": format!("{SECRET}\n") })),
        token(json!({ "sub": SECRET, "name": { "secret": SECRET } })),
        token(json!({ "sub": SECRET, "exp": START - 60 })),
        token(json!({ "sub": SECRET, "aud": SECRET })),
        token(json!({ "iss": SECRET })),
        K2.sign(&claims(json!({ "sub": SECRET }))),
        K2.sign_as(&json!({ "alg": SECRET }), &claims(json!({}))),
        K2.sign_as(
            &json!({ "alg": "ES256", "kid": SECRET }),
            &claims(json!({})),
        ),
        K1.sign_as(
            &json!({ "alg": "ES256", "kid": "k1", "crit": [SECRET] }),
            &claims(json!({})),
        ),
    ];
    let mut replies = Vec::new();
    let mut paused = Vec::new();
    let mut submit = |replies: &mut Vec<Reply>| {
        for token in &tokens {
            for request in [bearer("/", token), Request::get(&format!("/?jwt={token}"))] {
                match plugin.submit(request) {
                    Submitted::Answered(reply, _) => replies.push(reply),
                    Submitted::Waiting(waiting) => paused.push(waiting),
                }
            }
        }
    };
    submit(&mut replies);
    plugin.tick();
    fail(&plugin);
    pass(&plugin, 1);
    publish(&plugin, &[K1]);
    submit(&mut replies);
    pass(&plugin, 1);
    publish(&plugin, &[K1]);
    replies.extend(
        paused
            .into_iter()
            .map(|paused| plugin.resume(paused).reply()),
    );
    assert_eq!(replies.len(), 2 * 2 * tokens.len());
    assert!(replies.iter().any(|reply| reply.status == 200));

    let log: Vec<String> = plugin
        .host
        .logged()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let log = log.join("\n");
    assert!(
        log.contains("no header x-subject: has a control character"),
        "{log}"
    );
    let told = replies
        .iter()
        .filter(|reply| reply.status != 200)
        .flat_map(|reply| {
            let body = String::from_utf8(reply.body.clone()).unwrap();
            [
                format!("{:?}", reply.headers),
                body,
                reply.details.clone(),
                format!("{:?}", reply.logged),
            ]
        });
    let state = format!("{:?}", plugin.host.filter_state.borrow());
    let counters = format!("{:?}", plugin.host.process.counters());
    let pieces = pieces(&tokens);
    for text in told.chain([log, state, counters]) {
        assert!(!text.contains(SECRET), "{text}");
        for piece in &pieces {
            assert!(!text.contains(piece.as_str()), "{piece} in {text}");
        }
    }
}

#[test]
fn keys_that_are_written_down_are_not_repeated() {
    let private = with(K1.jwk(), json!({ "d": "c2VjcmV0LXNlY3JldC1zZWNyZXQ" }));
    for inline in [
        json!({ "keys": [private] }),
        json!("c2VjcmV0LXNlY3JldC1zZWNyZXQ"),
    ] {
        let document = config(json!({}), json!({ "jwks": { "inline": inline } }));
        let errors = Plugin::start(&document).err().unwrap().to_string();
        assert!(!errors.contains("c2VjcmV0"), "{errors}");
    }
}
