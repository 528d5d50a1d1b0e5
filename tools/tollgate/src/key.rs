//! `tollgate key`: API keys, made and hashed.

use std::io::{self, BufRead as _, IsTerminal as _, Write};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::Outcome;
use crate::args::{KeyCommand, PepperArguments};

/// 256 bits: nobody guesses them, so a plain digest hides them.
const KEY_BYTES: usize = 32;

/// Makes or hashes a key.
pub fn run(command: &KeyCommand, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    match command {
        KeyCommand::New { prefix, pepper } => {
            let key = new(prefix)?;
            let line = line(&key, pepper)?;
            writeln!(out, "{key}")?;
            writeln!(out, "{line}")?;
        }
        KeyCommand::Hash { pepper } => writeln!(out, "{}", line(&given()?, pepper)?)?,
    }
    Ok(Outcome::Good)
}

fn new(prefix: &str) -> anyhow::Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if prefix.len() > 32 || !prefix.bytes().all(is_plain) {
        bail!("the prefix has to be at most 32 letters, digits, and _ - . in all");
    }
    let mut random = [0; KEY_BYTES];
    getrandom::fill(&mut random).context("the system gives no random bytes")?;
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random)))
}

/// The key on standard input, without the line's end; asked for unseen where that is a terminal.
fn given() -> anyhow::Result<String> {
    let key = if io::stdin().is_terminal() {
        rpassword::prompt_password("key: ").context("the key can't be read")?
    } else {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        read.context("standard input can't be read")?;
        line.trim_end_matches(['\n', '\r']).to_owned()
    };
    match key.is_empty() {
        true => bail!("no key was given: write it to standard input"),
        false => Ok(key),
    }
}

/// The item for `usage_plan.consumers[].keys`.
fn line(key: &str, pepper: &PepperArguments) -> anyhow::Result<String> {
    Ok(match &pepper.pepper_env {
        None => format!("- {{ sha256: \"{}\" }}", sha256(key)),
        Some(variable) => {
            let pepper = std::env::var(variable)
                .ok()
                .filter(|pepper| !pepper.is_empty());
            let pepper = pepper.with_context(|| {
                format!("the environment variable {variable} is not set: it has to hold the pepper")
            })?;
            format!("- {{ hmac_sha256: \"{}\" }}", hmac_sha256(key, &pepper)?)
        }
    })
}

/// The digest of a key, in hexadecimal.
pub fn sha256(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

fn hmac_sha256(key: &str, pepper: &str) -> anyhow::Result<String> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(pepper.as_bytes())?;
    hmac.update(key.as_bytes());
    Ok(hex(&hmac.finalize().into_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        assert_eq!(
            sha256("acme-demo-key"),
            "8676d15d94dabdd1283e6c407e2bb08a7b5c13b4e3667d4795c17172e080a3d4"
        );
        // RFC 4231 section 4.3.
        assert_eq!(
            hmac_sha256("what do ya want for nothing?", "Jefe").unwrap(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn keys_are_long_and_never_the_same() {
        let key = new("bank_live_").unwrap();
        assert_eq!(key.len(), "bank_live_".len() + 43);
        assert_ne!(key, new("bank_live_").unwrap());
        for prefix in ["a b", "é", &"x".repeat(33)] {
            assert!(new(prefix).is_err(), "{prefix}");
        }
    }
}
