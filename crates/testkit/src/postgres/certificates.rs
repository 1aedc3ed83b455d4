//! A certificate for a server on this machine, its authority, and an authority that knows nothing of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// PEM files.
pub(super) struct Certificates {
    pub(super) authority: PathBuf,
    pub(super) stranger: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificates {
    pub(super) fn make(folder: &Path) -> Self {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).expect("the server's folder can be written");
            // PostgreSQL refuses a key that others may read.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
            path
        };
        let (authority, issuer) = make_authority("Convoke test authority");
        let (stranger, _) = make_authority("Another authority");
        let key = KeyPair::generate().expect("a key can be drawn");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("the authority can sign");
        Self {
            authority: write("authority.pem", authority.pem()),
            stranger: write("stranger.pem", stranger.pem()),
            certificate: write("server.pem", certificate.pem()),
            key: write("server.key", key.serialize_pem()),
        }
    }

    pub(super) fn files(&self) -> [&Path; 4] {
        [&self.authority, &self.stranger, &self.certificate, &self.key]
    }
}

fn make_authority(name: &str) -> (Certificate, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("a key can be drawn");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).expect("a key can sign");
    (certificate, Issuer::new(params, key))
}
