//! A quota that several gateways share: what one admits, the others count.

use tollgate_tests::HttpClient;

use crate::container;
use crate::show::{self, Style};

/// curio is on the plan trial of `envoy/quotas.yaml`, whose quota is strict.
const KEY: &str = "curio-demo-key";

/// Spends the quota at the gateways in turn. Whether it was this many requests, and is spent at each
/// of them then.
pub(crate) async fn share(style: &Style, limit: usize, gateways: &[&str]) -> Result<bool, String> {
    let mut clients = Vec::new();
    for gateway in gateways {
        let address = container::resolve(gateway).await?;
        clients.push((gateway, HttpClient::http1(address)));
    }
    let mut admitted = 0_usize;
    let mut refusals_in_turn = 0_usize;
    for (gateway, client) in clients.iter().cycle() {
        let reply = client
            .get("/v1/accounts/42")
            .header("x-api-key", KEY)
            .send()
            .await;
        show::turn(gateway, &reply);
        if reply.status == 200 {
            admitted = admitted.saturating_add(1);
            refusals_in_turn = 0;
        } else if reply.status == 429 && reply.json()["kind"] == "quota-exceeded" {
            refusals_in_turn = refusals_in_turn.saturating_add(1);
        } else {
            return Err(format!("{gateway} answered what was not expected"));
        }
        if admitted > limit || refusals_in_turn == clients.len() {
            break;
        }
    }
    show::shared(style, admitted, limit);
    Ok(admitted == limit)
}
