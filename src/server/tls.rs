//! Certificate and key of the public listener, looked at before anything listens: Pingora panics on bad ones.

use std::path::Path;
use std::sync::Arc;

use pingora::listeners::tls::TlsSettings;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::settings::Tls;

/// Settings of a listener with this certificate, for HTTP/2 and HTTP/1.1.
///
/// # Errors
/// When a file cannot be read, holds no PEM of its kind, or the key is not the certificate's.
pub fn listener(files: &Tls) -> Result<TlsSettings, String> {
    check(files)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut settings = TlsSettings::intermediate(&text(&files.cert), &text(&files.key))
        .map_err(|error| error.to_string())?;
    settings.enable_h2();
    Ok(settings)
}

fn check(files: &Tls) -> Result<(), String> {
    let bad = |key: &str, path: &Path, cause: &dyn std::fmt::Display| {
        format!("`tls.{key}`: {}: {cause}", path.display())
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad("cert", &files.cert, &error))?;
    if chain.is_empty() {
        return Err(bad("cert", &files.cert, &"no certificate in it"));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad("key", &files.key, &error))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map(drop)
        .map_err(|error| bad("key", &files.key, &error))
}
