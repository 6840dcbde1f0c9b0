//! Says in words why an address could not be asked.

use rustls::{CertificateError, Error as TlsError};
use std::io::ErrorKind;
use std::time::Duration;
use ureq::Error;

/// Says why `url` could not be asked, and how to mend it.
pub(super) fn unreachable(url: &str, error: &Error, limit: Duration) -> String {
    let (what, help) = reason(url, error, limit);
    match help {
        "" => format!("{url} cannot be reached: {what}"),
        help => format!("{url} cannot be reached: {what}\n  help: {help}"),
    }
}

fn reason(url: &str, error: &Error, limit: Duration) -> (String, &'static str) {
    const USE_TLS: &str = "if it is a port for TLS, use https://";
    let is_tls = url.starts_with("https://");
    if let Some(error) = tls_error(error) {
        return of_tls(error);
    }
    match error {
        Error::Timeout(_) => (
            format!("no answer within {} s", limit.as_secs()),
            if is_tls {
                "look whether the port is the right one, and one for TLS, and whether a firewall drops what is sent to it"
            } else {
                "look whether the port is the right one, and whether a firewall drops what is sent to it"
            },
        ),
        Error::HostNotFound => {
            ("the name of this host does not resolve".to_owned(), "look for a typing error, or ask by the IP address")
        }
        Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => (
                "the connection was refused: nothing listens on this port".to_owned(),
                "look whether the proxy runs, and on which port",
            ),
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe if is_tls => (
                "the connection was closed during the TLS handshake or before an answer".to_owned(),
                "if it is a port without TLS, use http://; the server may also ask for a client certificate",
            ),
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
                ("the connection was closed before an answer".to_owned(), USE_TLS)
            }
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                (format!("there is no way to this host: {error}"), "look whether the address is the right one")
            }
            // An address that does not resolve is an error of no kind of its own.
            _ if error.to_string().contains("failed to lookup address") => (
                "the name of this host does not resolve".to_owned(),
                "look for a typing error, or ask by the IP address",
            ),
            _ => (format!("the connection failed: {error}"), ""),
        },
        Error::Protocol(_) | Error::Http(_) if is_tls => {
            (format!("what answers does not speak HTTP/1.1: {error}"), "look whether the port is the right one")
        }
        Error::Protocol(_) | Error::Http(_) => (format!("what answers does not speak HTTP/1.1: {error}"), USE_TLS),
        Error::BodyExceedsLimit(limit) => (format!("the answer is larger than {limit} bytes"), ""),
        Error::LargeResponseHeader(..) => ("the head of the answer is too large".to_owned(), ""),
        error => (error.to_string(), ""),
    }
}

/// Returns the error of TLS that an error is, or that is inside it.
fn tls_error(error: &Error) -> Option<&TlsError> {
    match error {
        Error::Rustls(error) => Some(error),
        Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn of_tls(error: &TlsError) -> (String, &'static str) {
    const TRUST: &str = "if the certificate is one of your own authority, or signed by itself, give the authority, or the \
                         certificate, with --ca FILE";
    match error {
        TlsError::InvalidMessage(_) => {
            ("this port does not speak TLS: it speaks plain http, or something else".to_owned(), "use http://")
        }
        TlsError::InvalidCertificate(why) => match why {
            // The signature is of another authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                ("the certificate is signed by an authority that is not trusted".to_owned(), TRUST)
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                (format!("the certificate has expired: {why}"), "renew it, and look at the clock of this machine")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                (format!("the certificate is not valid yet: {why}"), "look at the clock of this machine")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                format!("the certificate is for another name: {why}"),
                "ask by a name that the certificate has; --host changes only the host inside the request",
            ),
            // It is signed by itself, and trusted, but marked as an authority.
            CertificateError::Other(_) if why.to_string().contains("CaUsedAsEndEntity") => (
                "the server shows the certificate of an authority as its own".to_owned(),
                "give the server a certificate that is not marked as an authority",
            ),
            why => (format!("the certificate is refused: {why}"), TRUST),
        },
        TlsError::AlertReceived(alert) => (
            format!("the server refused the TLS handshake: {alert:?}"),
            "it may ask for a client certificate, or know no certificate for this name",
        ),
        error => (format!("the TLS handshake failed: {error}"), ""),
    }
}
