//! The arguments.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Works on the configuration of Tollgate, the API-management filters for Envoy.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check configurations with the plugins' own code, and point at every mistake
    ///
    /// Exits with 0 if all is well, 1 with mistakes, 2 if a file can't be read or holds nothing of
    /// Tollgate's.
    Check(CheckArguments),
    /// Say what would become of a request, and why
    Explain(Box<ExplainArguments>),
    /// Make and hash API keys
    Key {
        /// What to do.
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Print the JSON Schema of the document
    Schema,
    /// Turn another gateway's configuration into a document
    Import {
        /// What to turn.
        #[command(subcommand)]
        command: ImportCommand,
    },
    /// Turn a document into what another system takes
    Export {
        /// What to make.
        #[command(subcommand)]
        command: ExportCommand,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How a result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// `check`
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// An Envoy configuration, an Istio or Envoy Gateway resource, or a bare document, in YAML or
    /// JSON; `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The plugin that the sections are for, where the file does not name it [default: tollgate]
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `explain`
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// What `check` takes; with one section, or one for the plugin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Method and URL, as `GET https://api.bank.example/v1/accounts/7`
    #[arg(long, value_name = "REQUEST")]
    pub request: String,
    /// A header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The plugin whose section is meant, where the file has several or does not say
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    pub client_address: IpAddr,
    /// The URI in the client's certificate, as spiffe://bank.example/ns/batch/sa/run
    #[arg(long, value_name = "URI")]
    pub client_uri: Option<String>,
    /// The time of the request, as 2027-06-30T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Send the request so many times, and explain the last
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub repeat: u32,
    /// The time between repetitions, as 100ms [default: none]
    #[arg(long, value_name = "TIME", requires = "repeat")]
    pub every: Option<String>,
    /// The keys of an issuer that the gateway would fetch: a JWK set
    #[arg(long, value_name = "PROVIDER=FILE")]
    pub jwks: Vec<String>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `key …`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key of 256 random bits, and print it with its line for the document
    ///
    /// The key is printed once and kept nowhere.
    New {
        /// What the key begins with, so that people and scanners recognise it, as bank_live_
        #[arg(long, default_value = "", value_name = "TEXT")]
        prefix: String,
        /// Where the pepper is.
        #[command(flatten)]
        pepper: PepperArguments,
    },
    /// Hash a key, read from standard input or asked for
    ///
    /// A key is never an argument: arguments are seen by every user of the machine.
    Hash {
        /// Where the pepper is.
        #[command(flatten)]
        pepper: PepperArguments,
    },
}

/// Where the pepper is.
#[derive(Debug, Args)]
pub struct PepperArguments {
    /// The environment variable that holds the pepper, for an `hmac_sha256`
    #[arg(long, value_name = "VARIABLE")]
    pub pepper_env: Option<String>,
}

/// `import …`
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// A declarative configuration of Kong Gateway 3, as kong.yml
    Kong(OneFile),
    /// Exports of Amazon API Gateway: `get-usage-plans`, `get-api-keys --include-values`,
    /// `get-usage-plan-keys`
    Aws {
        /// The exports, as JSON; those of `get-usage-plan-keys` as PLAN_ID=FILE
        #[arg(required = true, value_name = "[PLAN_ID=]FILE")]
        files: Vec<String>,
    },
    /// `limit_req` and `limit_conn` of an NGINX configuration
    Nginx(OneFile),
}

/// One file.
#[derive(Debug, Args)]
pub struct OneFile {
    /// The file; `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `export …`
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// A WasmPlugin of Istio
    Istio(IstioArguments),
    /// The configuration of envoyproxy/ratelimit that belongs to the plans, for a quota store
    Ratelimit(RatelimitArguments),
}

/// `export ratelimit`
#[derive(Debug, Args)]
pub struct RatelimitArguments {
    /// What `check` takes; with one section, or one for the plugin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The plugin whose section is meant, where the file has several or does not say
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
}

/// `export istio`
#[derive(Debug, Args)]
pub struct IstioArguments {
    /// What `check` takes; with one section, or one for the plugin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where Istio finds the plugin: oci://…, https://… or file:///…
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The SHA-256 of the plugin or of its image's manifest
    #[arg(long, value_name = "DIGEST", value_parser = sha256)]
    pub sha256: Option<String>,
    /// The plugin whose section is meant, where the file has several or does not say
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
    /// The resource's name [default: the plugin's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The resource's namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// A label of the workloads that get the plugin, as app=gateway; may be repeated
    #[arg(long, value_name = "LABEL=VALUE")]
    pub selector: Vec<String>,
    /// A secret for pulling the image
    #[arg(long, value_name = "NAME")]
    pub image_pull_secret: Option<String>,
}

fn sha256(text: &str) -> Result<String, String> {
    let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_digest {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("expected 64 hexadecimal digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
