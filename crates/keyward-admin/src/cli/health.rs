//! `keyward health`: whether the admin service or a proxy is ready, for health checks in images that have no shell.

use super::error::{CommandError, end};
use super::exit::Exit;
use crate::config::Environment;
use clap::Args;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;
use ureq::tls::TlsConfig;

/// How long an answer may take. Docker's health checks are usually given three seconds.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(2);

/// Ask whether the admin service or a proxy is ready
///
/// Exits with 0 if the answer is 200, and with 1 otherwise. Made for health checks in images that have no shell.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// What to ask, such as <http://127.0.0.1:10000/keyward/ready>. Without it, the service that KEYWARD_LISTEN and
    /// KEYWARD_TLS_CERT describe is asked on this machine
    url: Option<String>,
}

/// What is asked.
enum Question {
    /// The URL must be answered with 200.
    Get(String),
    /// The port must be open. A service that asks for client certificates answers nobody else.
    Connect(SocketAddr),
}

/// Runs the command.
pub fn run(args: &HealthArgs) -> Exit {
    end(question(args).and_then(|question| ask(&question)))
}

fn question(args: &HealthArgs) -> Result<Question, CommandError> {
    if let Some(url) = &args.url {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(CommandError::invalid(format!("`{url}` begins with neither http:// nor https://")));
        }
        return Ok(Question::Get(url.clone()));
    }
    let mut env = Environment::new(|name| std::env::var(name).ok());
    let listen = env.secret("KEYWARD_LISTEN").unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let (cert, client_ca) = (env.secret("KEYWARD_TLS_CERT"), env.secret("KEYWARD_TLS_CLIENT_CA"));
    let (cert, client_ca) = env.finish((cert, client_ca)).map_err(CommandError::invalid)?;
    let listen: SocketAddr =
        listen.parse().map_err(|_| CommandError::invalid(format!("KEYWARD_LISTEN: `{listen}` is no address")))?;
    let address = reachable(listen);
    Ok(match (cert, client_ca) {
        (Some(_), Some(_)) => Question::Connect(address),
        (Some(_), None) => Question::Get(format!("https://{address}/readyz")),
        (None, _) => Question::Get(format!("http://{address}/readyz")),
    })
}

/// Returns where a service that listens at `listen` is reached from the same machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(question: &Question) -> Result<(), CommandError> {
    let url = match question {
        Question::Get(url) => url,
        Question::Connect(address) => {
            let connected = TcpStream::connect_timeout(address, MAX_ANSWER_TIME);
            return connected.map(drop).map_err(|error| CommandError::failed(format!("{address}: {error}")));
        }
    };
    // The certificate is made for the name that clients use, which is not this machine's loopback address. Nothing secret
    // is sent, and the answer is only a status.
    let tls = TlsConfig::builder().disable_verification(true).build();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(MAX_ANSWER_TIME))
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls);
    let answer = config.build().new_agent().get(url).call();
    let status = answer.map_err(|error| CommandError::failed(format!("{url}: {error}")))?.status().as_u16();
    if status == 200 { Ok(()) } else { Err(CommandError::failed(format!("{url}: not ready: it answers {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_machine_is_reached_by_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("127.0.0.2:1", "127.0.0.2:1"),
            ("192.0.2.1:8081", "192.0.2.1:8081"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
