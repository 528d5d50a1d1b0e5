//! `docker-compose.yml` and what it mounts, as far as that can be told without Docker. That it works
//! is the matter of `make compose-test`, which has no image of envoyproxy/ratelimit.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tollgate_cli::args::{ExportCommand, RatelimitArguments};
use tollgate_cli::{Outcome, export};
use tollgate_tests::repository;

fn read(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let services = compose["services"].as_object().unwrap();
    services
        .iter()
        .map(|(name, service)| (name.as_str(), service))
}

fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap()).collect()
}

/// What is mounted into a service from this repository, by where it is seen there.
fn mounted(service: &Value) -> BTreeMap<&str, &str> {
    let volumes = texts(&service["volumes"]).into_iter();
    let files = volumes.filter_map(|volume| volume.strip_prefix("./"));
    files
        .map(|file| {
            let (file, rest) = file.split_once(':').unwrap();
            (rest.strip_suffix(":ro").expect("read-only"), file)
        })
        .collect()
}

#[test]
fn no_service_can_do_more_than_it_must() {
    let compose = compose();
    let mut count = 0;
    for (name, service) in services(&compose) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        let options = texts(&service["security_opt"]);
        assert_eq!(options, ["no-new-privileges:true"], "{name}");
        let user = service["user"].as_str().unwrap();
        assert!(
            !user.starts_with("0") && !user.starts_with("root"),
            "{name}"
        );
        assert!(service.get("cap_add").is_none(), "{name}");
        assert!(service.get("privileged").is_none(), "{name}");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        mounted(service);
        count += 1;
    }
    assert!(count >= 15, "{count}");
}

#[test]
fn every_image_is_built_here_or_has_a_version() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let image = service["image"].as_str().unwrap();
        if service.get("build").is_none() {
            let (_, tag) = image.split_once(':').unwrap_or_else(|| panic!("{name}"));
            assert!(tag.contains(|c: char| c.is_ascii_digit()), "{name}: {tag}");
        }
    }
}

/// Who keeps quotas is not in the network of those that need not speak to it.
#[test]
fn stores_are_reached_by_those_that_need_them_alone() {
    let compose = compose();
    let members = |network: &str| -> Vec<&str> {
        let services = services(&compose).filter(|(_, service)| {
            let networks = &service["networks"];
            networks.get(network).is_some() || texts(networks).contains(&network)
        });
        services.map(|(name, _)| name).collect()
    };
    for (network, expected) in [
        ("quotas", vec!["quotas-a", "quotas-b", "webdis"]),
        ("store", vec!["redis", "webdis"]),
        ("ratelimit", vec!["ratelimit", "ratelimit-a", "ratelimit-b"]),
        ("ratelimit-store", vec!["ratelimit", "ratelimit-redis"]),
    ] {
        let mut found = members(network);
        found.sort_unstable();
        assert_eq!(found, expected, "{network}");
        assert_eq!(compose["networks"][network]["internal"], true, "{network}");
    }
}

#[test]
fn the_rate_limit_service_is_given_what_is_exported_from_what_its_envoys_have() {
    let compose = compose();
    let service = &compose["services"]["ratelimit"];
    let variable = |name: &str| service["environment"][name].as_str().unwrap();
    let folder = format!(
        "{}/{}/config",
        variable("RUNTIME_ROOT"),
        variable("RUNTIME_SUBDIRECTORY")
    );
    let mounted = mounted(service);
    let [(target, file)] = mounted.into_iter().collect::<Vec<_>>()[..] else {
        panic!("one file is mounted");
    };
    let (parent, _) = target.rsplit_once('/').unwrap();
    assert_eq!(parent, folder);
    for envoy in ["ratelimit-a", "ratelimit-b"] {
        let command = texts(&compose["services"][envoy]["command"]);
        assert!(
            command.contains(&"/etc/envoy/quotas-ratelimit.yaml"),
            "{envoy}"
        );
    }
    let mut exported = Vec::new();
    let command = ExportCommand::Ratelimit(RatelimitArguments {
        file: repository().join("envoy/quotas-ratelimit.yaml"),
        plugin: None,
    });
    let outcome = export::run(&command, &mut exported).unwrap();
    assert_eq!(outcome, Outcome::Good);
    assert_eq!(read(file), String::from_utf8(exported).unwrap());
}

/// A row of a table of two columns and more: its first cells, without their backquotes.
fn row(line: &str) -> Option<(Vec<String>, Vec<String>)> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let words = |cell: &str| {
        let words = cell.split(',').map(|word| word.trim().trim_matches('`'));
        words.map(str::to_owned).collect()
    };
    Some((words(cells.next()?), words(cells.next()?)))
}

#[test]
fn the_rate_limit_service_is_set_up_as_its_page_says() {
    let compose = compose();
    let environment = &compose["services"]["ratelimit"]["environment"];
    let page = read("docs/quota-store.md");
    let (_, section) = page.split_once("\n## envoyproxy/ratelimit\n").unwrap();
    let mut checked = 0;
    for (names, values) in section.lines().filter_map(row) {
        for (index, name) in names.iter().enumerate() {
            let Some(found) = environment[name.as_str()].as_str() else {
                panic!("{name} is not set");
            };
            // Which Redis it is, and where the configuration lies, differs from place to place.
            let differs = ["REDIS_URL", "RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY"];
            if !differs.contains(&name.as_str()) {
                assert_eq!(found, values[index], "{name}");
            }
            checked += 1;
        }
        if names.contains(&"SHADOW_MODE".to_owned()) {
            break;
        }
    }
    assert!(checked >= 9, "{checked}");
}

#[test]
fn redis_and_webdis_are_set_up_as_their_page_says() {
    let page = read("docs/quota-store.md");
    let blocks: Vec<&str> = page
        .split("\n```")
        .filter_map(|block| block.split_once('\n'))
        .map(|(_, text)| text)
        .collect();
    let redis = read("deploy/quota-store/redis.conf");
    let settings = blocks.iter().find(|block| block.starts_with("appendonly"));
    for setting in settings.unwrap().lines() {
        // How much memory there is differs from place to place.
        let (name, _) = setting.split_once(' ').unwrap();
        let expected = if name == "maxmemory" { name } else { setting };
        assert!(redis.contains(&format!("\n{expected}")), "{setting}");
    }
    let users = read("deploy/quota-store/redis.acl");
    let rules = blocks
        .iter()
        .find_map(|block| block.strip_prefix("ACL SETUSER default on resetpass >password "));
    let rules = rules.unwrap().trim_end();
    assert!(users.contains(rules), "{rules}");
    let webdis: Value = serde_json::from_str(&read("deploy/quota-store/webdis.json")).unwrap();
    let password = webdis["redis_auth"].as_str().unwrap();
    assert!(users.contains(&format!("user default on >{password} ")));
    let shown = blocks.iter().find(|block| block.starts_with("{\n"));
    let shown: Value = serde_json::from_str(shown.unwrap()).unwrap();
    for (name, value) in shown.as_object().unwrap() {
        if !["redis_auth", "acl"].contains(&name.as_str()) {
            assert_eq!(webdis[name], *value, "{name}");
        }
    }
    // Nobody logs in: who may speak to it, its network says.
    let [disabled, enabled] = &webdis["acl"].as_array().unwrap()[..] else {
        panic!("two rules");
    };
    assert_eq!(disabled["disabled"], shown["acl"][0]["disabled"]);
    assert_eq!(enabled["enabled"], shown["acl"][1]["enabled"]);
}
