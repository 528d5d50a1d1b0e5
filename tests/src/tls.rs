//! Certificates made on the spot, and what a client needs to speak TLS with them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A certificate authority for one test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
}

impl Authority {
    /// Makes an authority of this common name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key pair");
        let cert = params.self_signed(&key).expect("a self-signed certificate");
        Self {
            cert_pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The certificate that others must trust.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// A server certificate for these DNS names or addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).expect("names that fit a certificate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// A client certificate with this common name and these URIs (such as a SPIFFE ID).
    pub fn client(&self, common_name: &str, uris: &[&str]) -> Identity {
        self.client_with_names(common_name, uris, &[])
    }

    /// A client certificate with this common name, these URIs and these DNS names.
    pub fn client_with_names(&self, common_name: &str, uris: &[&str], names: &[&str]) -> Identity {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let uris = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().expect("an ASCII URI")));
        let names = names
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().expect("an ASCII name")));
        params.subject_alt_names = uris.chain(names).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// A certificate of any other shape.
    pub fn issue(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key pair");
        let cert = params
            .signed_by(&key, &self.issuer)
            .expect("parameters that fit a certificate");
        Identity {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// A certificate and its private key, both as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

/// How a client speaks TLS: whom it trusts, and who it says it is.
#[derive(Clone)]
pub struct ClientTls {
    roots: RootCertStore,
    identity: Option<Identity>,
}

impl ClientTls {
    /// Trusts servers of this authority alone.
    pub fn trusting(authority: &Authority) -> Self {
        Self::trusting_pem(&authority.cert_pem)
    }

    /// Trusts servers of the authority with this certificate, as PEM, alone.
    ///
    /// # Panics
    ///
    /// When it is no certificate of an authority.
    pub fn trusting_pem(authority_pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let cert = CertificateDer::from_pem_slice(authority_pem.as_bytes())
            .expect("an authority has a certificate");
        roots.add(cert).expect("an authority can be trusted");
        Self {
            roots,
            identity: None,
        }
    }

    /// Shows this certificate to a server that asks for one.
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// The same as rustls wants it, offering one protocol by ALPN.
    pub(crate) fn config(&self, alpn: &[u8]) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let cert = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes())
                    .expect("an identity has a certificate");
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
                    .expect("an identity has a key");
                builder
                    .with_client_auth_cert(vec![cert], key)
                    .expect("the key belongs to the certificate")
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }
}
