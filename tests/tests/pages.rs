//! What README.md, CONTRIBUTING.md and the pages in docs/ tell people to type can be typed. Tasks of
//! make, tools, packages and services are looked up; scripts are run. Those of docs/cli.md have a test
//! with the command line.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tollgate_tests::repository;

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The name and the text of each page.
fn pages() -> Vec<(String, String)> {
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    let docs = docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    let mut names: Vec<String> = docs.filter(|name| name.ends_with(".md")).collect();
    names.extend(["README.md", "CONTRIBUTING.md"].map(str::to_owned));
    names.sort();
    let named = names.into_iter().map(|name| {
        let text = read(&name);
        (name, text)
    });
    named.collect()
}

/// The blocks of a page whose first word is `sh`, and its text without any blocks.
fn blocks(page: &str) -> (Vec<String>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(words) = line.strip_prefix("```") else {
            prose.extend([line, "\n"]);
            continue;
        };
        let text = lines.by_ref().take_while(|line| *line != "```");
        let text = text.flat_map(|line| [line, "\n"]).collect();
        if words.split(' ').next() == Some("sh") {
            blocks.push(text);
        }
    }
    (blocks, prose)
}

/// What there is to be asked for.
struct Known {
    tasks: BTreeSet<String>,
    variables: BTreeSet<String>,
    packages: BTreeSet<String>,
    services: BTreeSet<String>,
    profiles: BTreeSet<String>,
}

impl Known {
    fn new() -> Self {
        let makefile = read("Makefile");
        let tasks = makefile.lines().filter(|line| line.contains(" ## "));
        let tasks = tasks.map(|line| line.split(':').next().unwrap().to_owned());
        // Those that a person sets have a line at the top, or stand in what a task says of itself.
        let words = makefile.lines().filter(|line| line.contains('#'));
        let words =
            words.flat_map(|line| line.split(|c: char| !c.is_ascii_uppercase() && c != '_'));
        let words = words.chain(["PLUGINS"]).filter(|word| word.len() > 3);
        let lock = read("Cargo.lock");
        let packages = lock.lines().filter_map(|line| line.strip_prefix("name = "));
        let packages = packages.map(|name| name.trim_matches('"').to_owned());
        let compose: Value = serde_saphyr::from_str(&read("docker-compose.yml")).unwrap();
        let services = compose["services"].as_object().unwrap();
        let profiles = services
            .values()
            .filter_map(|service| service["profiles"].as_array());
        let profiles = profiles
            .flatten()
            .map(|name| name.as_str().unwrap().to_owned());
        Self {
            tasks: tasks.collect(),
            variables: words.map(str::to_owned).collect(),
            packages: packages.collect(),
            profiles: profiles.collect(),
            services: services.keys().cloned().collect(),
        }
    }

    /// Whether it is a line that this knows about, and then what is wrong with it.
    fn check(&self, line: &str) -> Option<Result<(), String>> {
        let line = line.split(" #").next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let problem = match words.next()? {
            "make" => without_quoted(line).find_map(|word| match word.split_once('=') {
                Some((name, _)) => (!self.variables.contains(name)).then(|| format!("no {name}")),
                None => (!self.tasks.contains(word)).then(|| format!("no task {word}")),
            }),
            "cargo" => {
                let package = words.skip_while(|word| *word != "-p").nth(1);
                let known = package.is_none_or(|package| self.packages.contains(package));
                (!known).then(|| format!("no package {package:?}"))
            }
            "docker-compose" => self.compose(words.collect()),
            tool if tool.starts_with("tools/") => {
                let there = repository().join(tool).exists();
                (!there).then(|| format!("no {tool}"))
            }
            _ => return None,
        };
        Some(problem.map_or(Ok(()), Err))
    }

    fn compose(&self, words: Vec<&str>) -> Option<String> {
        let mut words = words.into_iter();
        let mut word = words.next()?;
        if word == "--profile" {
            let profile = words.next()?;
            if !self.profiles.contains(profile) {
                return Some(format!("no profile {profile}"));
            }
            word = words.next()?;
        }
        match word {
            "up" | "down" => None,
            "run" | "exec" => {
                let service = words.find(|word| !word.starts_with('-'))?;
                (!self.services.contains(service)).then(|| format!("no service {service}"))
            }
            other => Some(format!("unknown command {other}")),
        }
    }
}

/// The words behind the first one, without what is quoted.
fn without_quoted(line: &str) -> impl Iterator<Item = &str> {
    let pieces = line.split(['"', '\'']).step_by(2);
    pieces.flat_map(str::split_whitespace).skip(1)
}

/// Runs a script in a folder of its own, and gives what it says.
fn run(folder: &TempDir, script: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("sh")
        .args(["-eu", "-c", script])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("TOLLGATE_PEPPER", "demo-pepper")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Does what a script is for; false if it is one that nobody has told this.
fn try_out(page: &str, script: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    match page {
        "docs/usage-plan.md" if script.contains("openssl") => {
            let told = run(&folder, script);
            let [key, digest] = told.lines().collect::<Vec<_>>()[..] else {
                panic!("{told}");
            };
            assert!(key.len() >= 43 && !key.contains(['+', '/']), "{key}");
            assert!(is_digest(digest), "{digest}");
        }
        "docs/usage-plan.md" if script.contains("TOLLGATE_PEPPER") => {
            let told = run(&folder, &format!("KEY=acme-demo-key\n{script}"));
            let expected = "printf %s acme-demo-key | openssl dgst -sha256 -hmac demo-pepper -r";
            let expected = run(&folder, expected);
            assert_eq!(told.trim_end(), expected.split(' ').next().unwrap());
        }
        "docs/migrate-from-aws.md" => {
            let aws = folder.path().join("aws");
            fs::write(&aws, "#!/bin/sh\nprintf 'acme\\tacme-demo-key\\n'\n").unwrap();
            fs::set_permissions(&aws, fs::Permissions::from_mode(0o755)).unwrap();
            let digest = "8676d15d94dabdd1283e6c407e2bb08a7b5c13b4e3667d4795c17172e080a3d4";
            assert_eq!(run(&folder, script), format!("acme {digest}\n"));
        }
        "docs/operations.md" => {
            let script = script.replace("/etc/envoy", ".");
            fs::write(folder.path().join("tollgate-filter.yaml.new"), "new").unwrap();
            run(&folder, &script);
            let moved = fs::read_to_string(folder.path().join("tollgate-filter.yaml"));
            assert_eq!(moved.unwrap(), "new");
        }
        _ => return false,
    }
    true
}

#[test]
fn every_script_does_what_it_is_for_and_every_task_is_there() {
    let known = Known::new();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (page, text) in pages() {
        if page == "docs/cli.md" {
            continue;
        }
        let (blocks, prose) = blocks(&text);
        for block in blocks {
            let lines: Vec<_> = block.lines().map(|line| known.check(line)).collect();
            if lines.iter().all(Option::is_some) {
                let found = lines.into_iter().flatten().filter_map(Result::err);
                wrong.extend(found.map(|problem| format!("{page}: {problem}")));
            } else if !try_out(&page, &block) {
                wrong.push(format!("{page}: nothing tries out\n{block}"));
            }
            checked += 1;
        }
        // What stands between backquotes, every second piece.
        for line in prose.split('`').skip(1).step_by(2) {
            if let Some(Err(problem)) = known.check(&line.replace('\n', " ")) {
                wrong.push(format!("{page}: {problem} in `{line}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 10, "{checked}");
}

#[test]
fn what_is_not_there_is_found() {
    let known = Known::new();
    for line in [
        "make tset",
        "make dist PLUGINZ=sunset",
        "cargo run -p tollgate-dmeo",
        "docker-compose run --rm wlak",
        "docker-compose --profile rate-limit up",
        "tools/fetch-envoi",
    ] {
        assert!(matches!(known.check(line), Some(Err(_))), "{line}");
    }
    for line in [
        "make",
        "make bench TABLES=\"filters refused\" # some",
        "make compose-test COMPOSE_TEST_FLAGS='--without grafana'",
        "docker-compose exec -T gateway cat a > b",
    ] {
        assert_eq!(known.check(line), Some(Ok(())), "{line}");
    }
    assert_eq!(known.check("openssl rand 1"), None);
}
