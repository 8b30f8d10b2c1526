//! The CA of a consortium's transport: it names roles, not hosts.
//!
//! Every certificate carries the member's role as a DNS name (`coordinator.koinon`,
//! `partition.koinon`, ...), and that is what the other side checks, with the CA pinned from the
//! invitation. So addresses may change, and a site cannot pose as the coordinator. The CA protects
//! transport only: which site a certificate stands for is in the coordinator's own table, and what a
//! site says in a round is signed by its identity key. Start at [`Authority`].

use std::time::Duration;

use koinon_aggregation::roster::Role;
use koinon_proto::id::{Digest, Millis, SiteId};
use koinon_proto::limits::CERTIFICATE_REQUEST_BYTES_MAX;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Members renew when a third of this is left.
const MEMBER_DAYS: u32 = 90;
/// The server's own certificate; a new one is made at every start and every half of this.
const SERVER_DAYS: u32 = 90;
const CA_DAYS: u32 = 20 * 365;
/// Host names that one request may ask for.
const HOSTS_MAX: usize = 16;

/// A certificate request that is refused, or a CA that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(String);

impl CertificateError {
    pub(super) fn new(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

impl From<rcgen::Error> for CertificateError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

/// The CA with its key. No Debug: it holds a secret.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that was issued.
pub struct Issued {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// SHA-256 of the leaf: by this the coordinator knows the member again.
    pub fingerprint: Digest,
    /// End of its validity, Unix milliseconds.
    pub not_after_ms: Millis,
}

impl Authority {
    /// Makes a CA for the coordinator of this name: certificate and key, PEM.
    ///
    /// # Errors
    /// The library's error.
    pub fn create(name: &SiteId, now: Millis) -> Result<(String, String), CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "Koinon");
        params.distinguished_name.push(DnType::CommonName, format!("{name} CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params, now, CA_DAYS);
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    }

    /// Reads what [`Self::create`] made.
    ///
    /// # Errors
    /// When either is no PEM of the right kind.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, CertificateError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| CertificateError(format!("the CA's certificate: {e}")))?;
        let key = KeyPair::from_pem(key_pem)
            .map_err(|e| CertificateError(format!("the CA's key: {e}")))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|e| CertificateError(format!("the CA's certificate: {e}")))?;
        Ok(Self { certificate, issuer })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Issues a certificate for a member's request (PKCS#10, DER). Of the request only the key counts,
    /// and for a partition server the hosts; everything else is the CA's decision.
    ///
    /// # Errors
    /// When the request is too large, malformed or not signed by its own key.
    pub fn issue(
        &self,
        name: &SiteId,
        role: Role,
        request: &[u8],
        now: Millis,
    ) -> Result<Issued, CertificateError> {
        if request.len() > CERTIFICATE_REQUEST_BYTES_MAX {
            return Err(CertificateError("the certificate request is too large".into()));
        }
        let request = CertificateSigningRequestParams::from_der(&request.into())?;
        let mut hosts = vec![SanType::DnsName(role_name(role).try_into()?)];
        let mut usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role == Role::Partition {
            usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            hosts.extend(requested_hosts(&request.params.subject_alt_names)?);
        }
        let params = leaf(name.as_str(), role, hosts, usages, (now, MEMBER_DAYS));
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        let leaf = certificate.der().to_vec();
        let not_after_ms = now + u64::from(MEMBER_DAYS) * millis(DAY);
        Ok(Issued { fingerprint: Digest::of(&leaf), chain: vec![leaf], not_after_ms })
    }

    /// Makes a key and certificate for the coordinator's own port; the key lives in memory only.
    ///
    /// # Errors
    /// When a host name is none.
    pub fn server(
        &self,
        name: &SiteId,
        hosts: &[String],
        now: Millis,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), CertificateError> {
        let key = KeyPair::generate()?;
        let mut names = vec![SanType::DnsName(role_name(Role::Coordinator).try_into()?)];
        for host in hosts {
            names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => dns_name(host)?,
            });
        }
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let params = leaf(name.as_str(), Role::Coordinator, names, usages, (now, SERVER_DAYS));
        let certificate = params.signed_by(&key, &self.issuer)?;
        let der = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|e| CertificateError(e.to_owned()))?;
        Ok((certificate.der().clone(), der))
    }
}

/// When the server's certificate of this age is replaced.
#[must_use]
pub(super) fn server_renewal() -> Duration {
    DAY * SERVER_DAYS / 2
}

/// The role as the DNS name that certificates carry.
#[must_use]
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client.koinon",
        Role::Partition => "partition.koinon",
        Role::Operator => "operator.koinon",
        Role::Coordinator => "coordinator.koinon",
    }
}

/// Hosts that a partition server asks for: never a name of this scheme, which would be another role.
fn requested_hosts(requested: &[SanType]) -> Result<Vec<SanType>, CertificateError> {
    if requested.len() > HOSTS_MAX {
        return Err(CertificateError(format!("more than {HOSTS_MAX} host names requested")));
    }
    let mut hosts = Vec::new();
    for host in requested {
        match host {
            SanType::DnsName(name) => {
                let name = name.as_str().to_ascii_lowercase();
                dns_name(&name)?;
                if name.contains('*') || name.trim_end_matches('.').ends_with("koinon") {
                    return Err(CertificateError(format!("the host name `{name}` is reserved")));
                }
                hosts.push(host.clone());
            }
            SanType::IpAddress(_) => hosts.push(host.clone()),
            _ => return Err(CertificateError("only host names and addresses can be named".into())),
        }
    }
    Ok(hosts)
}

fn dns_name(host: &str) -> Result<SanType, CertificateError> {
    let wrong = || CertificateError(format!("`{host}` is no host name"));
    DnsName::try_from(host).map_err(|_| wrong())?;
    Ok(SanType::DnsName(host.try_into().map_err(|_| wrong())?))
}

fn leaf(
    name: &str,
    role: Role,
    hosts: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    (now, days): (Millis, u32),
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationalUnitName, role_name(role));
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = hosts;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial());
    validity(&mut params, now, days);
    params
}

/// A random serial, so that a renewal for the same key is a new certificate (RFC 5280, 4.1.2.2: at
/// most 20 octets, positive).
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = super::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Valid from an hour ago: members' clocks differ.
fn validity(params: &mut CertificateParams, now: Millis, days: u32) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(now);
    params.not_before = now - Duration::from_secs(3600);
    params.not_after = now + DAY * days;
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_800_000_000_000;

    fn request(hosts: &[&str]) -> Vec<u8> {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let params = CertificateParams::new(hosts).unwrap();
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn authority() -> Authority {
        let (certificate, key) = Authority::create(&SiteId::new("c").unwrap(), NOW).unwrap();
        Authority::load(&certificate, &key).unwrap()
    }

    #[test]
    fn a_site_gets_a_certificate_for_its_role_whatever_it_asks_for() {
        let (ca, site) = (authority(), SiteId::new("site").unwrap());
        let request = request(&["coordinator.koinon"]);
        let issued = ca.issue(&site, Role::Client, &request, NOW).unwrap();
        assert_eq!(issued.fingerprint, Digest::of(&issued.chain[0]));
        let text = String::from_utf8_lossy(&issued.chain[0]).into_owned();
        assert!(text.contains("client.koinon") && !text.contains("coordinator.koinon"));
        let again = ca.issue(&site, Role::Client, &request, NOW).unwrap();
        assert_ne!(issued.fingerprint, again.fingerprint, "a renewal is a new certificate");
    }

    #[test]
    fn a_partition_server_may_name_its_hosts_but_no_other_role() {
        let (ca, name) = (authority(), SiteId::new("p").unwrap());
        let good = request(&["localhost", "127.0.0.1", "tail.example"]);
        let issued = ca.issue(&name, Role::Partition, &good, NOW).unwrap();
        assert!(String::from_utf8_lossy(&issued.chain[0]).contains("tail.example"));
        for bad in ["coordinator.koinon", "COORDINATOR.Koinon", "*.example", "koinon"] {
            assert!(ca.issue(&name, Role::Partition, &request(&[bad]), NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_request_is_refused() {
        let (ca, site) = (authority(), SiteId::new("site").unwrap());
        let good = request(&[]);
        for bad in [&[][..], b"garbage", &good[..good.len() - 1], &vec![0; 100_000]] {
            assert!(ca.issue(&site, Role::Client, bad, NOW).is_err());
        }
        let mut forged = good.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(ca.issue(&site, Role::Client, &forged, NOW).is_err(), "not signed by its own key");
    }

    #[test]
    fn a_host_that_is_none_is_named() {
        let name = SiteId::new("c").unwrap();
        let error = authority().server(&name, &["é".into()], NOW).unwrap_err();
        assert!(error.to_string().contains('é'));
    }
}
