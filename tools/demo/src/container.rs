//! The parts of the demo, each by itself, for `docker-compose.yml`. What they share lies in a folder:
//!
//! | file | for |
//! |---|---|
//! | `certs/server.crt`, `certs/server.key` | the gateway |
//! | `trust/ca-certificates.crt` | who calls the gateway or the issuer |
//! | `issuer/tls.crt`, `issuer/tls.key`, `issuer/signing.der` | the issuer |

use std::fs::{self, OpenOptions};
use std::future::pending;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tokio::net::{TcpStream, lookup_host};
use tollgate_tests::{Algorithm, Authority, ClientTls, Identity, Issuer, SigningKey};

use crate::bank;
use crate::caller::{Caller, ISSUER_HOST, KEY};

const AUTHORITY: &str = "trust/ca-certificates.crt";

/// Makes certificates and keys, unless they are there already.
pub(crate) fn certificates(folder: &Path) -> Result<(), String> {
    if folder.join(AUTHORITY).exists() {
        println!("The certificates are there already.");
        return Ok(());
    }
    let authority = Authority::new("Tollgate demo");
    let server = authority.server(&["localhost", "127.0.0.1", "gateway"]);
    let issuer = authority.server(&[ISSUER_HOST]);
    let key = SigningKey::new(Algorithm::ES256);
    // The file that tells that all are there comes last.
    for (name, contents, secret) in [
        ("certs/server.crt", server.cert_pem.as_bytes(), false),
        ("certs/server.key", server.key_pem.as_bytes(), true),
        ("issuer/tls.crt", issuer.cert_pem.as_bytes(), false),
        ("issuer/tls.key", issuer.key_pem.as_bytes(), true),
        ("issuer/signing.der", key.pkcs8(), true),
        (AUTHORITY, authority.cert_pem().as_bytes(), false),
    ] {
        write(&folder.join(name), contents, secret)?;
    }
    println!("Made certificates in {}.", folder.display());
    Ok(())
}

/// Serves one of the upstreams until the program is ended.
pub(crate) async fn serve(service: &str, address: &str) -> Result<(), String> {
    let address = bank::start(service, resolve(address).await?).await?;
    println!("The service {service} listens at {address}.");
    pending().await
}

/// Publishes the issuer's key until the program is ended.
pub(crate) async fn issuer(folder: &Path, address: &str) -> Result<(), String> {
    let identity = Identity {
        cert_pem: text(&folder.join("issuer/tls.crt"))?,
        key_pem: text(&folder.join("issuer/tls.key"))?,
    };
    let key = SigningKey::es256(&read(&folder.join("issuer/signing.der"))?);
    let address = resolve(address).await?;
    // Its own certificate will do for an authority: only clients need that.
    let issuer = Issuer::start_at(address, &identity.cert_pem, &identity, ISSUER_HOST).await;
    issuer.add_key(key.jwk(KEY));
    println!("The issuer listens at {address}.");
    pending().await
}

/// A client of the gateway at this address.
pub(crate) async fn caller(folder: &Path, gateway: &str) -> Result<Caller, String> {
    let tls = ClientTls::trusting_pem(&text(&folder.join(AUTHORITY))?);
    let key = SigningKey::es256(&read(&folder.join("issuer/signing.der"))?);
    Ok(Caller::new(resolve(gateway).await?, tls, key))
}

/// Whether somebody listens at this address.
pub(crate) async fn reach(address: &str) -> Result<(), String> {
    let connection = TcpStream::connect(resolve(address).await?).await;
    connection
        .map(drop)
        .map_err(|error| format!("cannot reach {address}: {error}"))
}

/// Where a host is, by its name and port.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, String> {
    let found = lookup_host(address).await;
    let mut found = found.map_err(|error| format!("{address}: {error}, expected HOST:PORT"))?;
    found
        .next()
        .ok_or_else(|| format!("{address}: there is no such host"))
}

fn write(path: &Path, contents: &[u8], secret: bool) -> Result<(), String> {
    let failed = |error| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mode = if secret { 0o600 } else { 0o644 };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(contents).map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn text(path: &Path) -> Result<String, String> {
    String::from_utf8(read(path)?).map_err(|_| format!("{} is no text", path.display()))
}
