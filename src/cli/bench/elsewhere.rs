//! Somebody else's server: a gateway that runs, or the app's own check.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::checks::{bent, check, check_other, first};
use super::stop::Stop;
use super::turns::{Cpu, Side};
use super::wire::{self, Statuses};
use super::{Bench, Ending, cookies, usage};
use crate::bench::report::{Check, ConfigUsed, Report, Status};
use crate::cli::tls::Tls;
use crate::cli::{Failure, UNREACHABLE, World};
use crate::secret::Secret;

impl Bench {
    /// Somebody else's server, asked with the sessions that were given.
    pub(super) fn other(&self, url: &str, given: &[Secret]) -> Result<wire::Asked, Failure> {
        let place = Place::read(url, self.ca_file.as_deref())?;
        let requests = given
            .iter()
            .map(|cookie| place.request(Some(cookie.expose())))
            .collect();
        Ok(place.asked(requests, Statuses::Good, self.wait))
    }

    pub(super) fn measure_url(
        &self,
        url: &str,
        given: &[Secret],
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        report.config = ConfigUsed {
            file: "that of the server at the URL".into(),
            hash: "unknown".into(),
            store: "that of the server at the URL".into(),
        };
        report.method.sessions = given.len();
        report.method.answer_bytes = 0;
        let place = Place::read(url, self.ca_file.as_deref())?;
        let good = self.other(url, given)?;
        let none = place.asked(vec![place.request(None)], Statuses::Refused, self.wait);
        let forged: Vec<Vec<u8>> = given
            .iter()
            .map(|cookie| place.request(Some(&bent(cookie.expose()))))
            .collect();
        let forged = place.asked(forged, Statuses::Refused, self.wait);
        self.check_url(&place, &good, &none, &forged, report, world)?;
        if !report.is_correct() {
            return Ok(());
        }
        let pid = self.pid.map_or(Cpu::Nobody, Cpu::Process);
        if let Some(against) = &self.against {
            let other = self.other(against, given)?;
            check_other(&other, report);
            if !report.is_correct() {
                return Ok(());
            }
            let sides = [
                Side::new("url", &good, pid),
                Side::new("against", &other, Cpu::Nobody),
            ];
            self.compare(sides, ["against", "url"], report, stop, world)?;
        } else if self.wants("url") {
            self.alone("url", &good, pid, report, stop, world)?;
        }
        for (id, asked) in [("url_forged", &forged), ("url_none", &none)] {
            if self.wants(id) {
                self.alone(id, asked, pid, report, stop, world)?;
            }
        }
        Ok(())
    }

    pub(super) fn check_url(
        &self,
        place: &Place,
        good: &wire::Asked,
        none: &wire::Asked,
        forged: &wire::Asked,
        report: &mut Report,
        world: &World<'_>,
    ) -> Result<(), Failure> {
        for (id, name, asked) in [
            ("good", "a good session is let in", good),
            ("none", "nobody without a session is", none),
            ("forged", "nor a forged one", forged),
        ] {
            let answer = first(asked)?;
            let right = asked.statuses.has(answer.status);
            report
                .checks
                .push(check(id, name, right, answer.status.to_string()));
        }
        for (id, name, path) in [
            (
                "revoked",
                "nor one that was signed out",
                &self.revoked_cookie_file,
            ),
            ("expired", "nor one that is over", &self.expired_cookie_file),
        ] {
            let Some(path) = path else {
                report.checks.push(Check {
                    id: id.into(),
                    name: name.into(),
                    status: Status::NotChecked,
                    detail: format!("no such session was given: `--{id}-cookie-file`"),
                });
                continue;
            };
            for cookie in cookies(world, path)? {
                let requests = vec![place.request(Some(cookie.expose()))];
                let answer = first(&place.asked(requests, Statuses::Refused, self.wait))?;
                let right = Statuses::Refused.has(answer.status);
                report
                    .checks
                    .push(check(id, name, right, answer.status.to_string()));
            }
        }
        report.checks.push(Check {
            id: "spoofed".into(),
            name: "what only the gateway may say is removed from what comes in".into(),
            status: Status::NotChecked,
            detail:
                "the app behind the URL is not ours: `vestibule selftest URL --echo PATH` sees it"
                    .into(),
        });
        Ok(())
    }
}

/// Where somebody else's server is, and what is asked of it.
pub(super) struct Place {
    address: SocketAddr,
    tls: Option<Tls>,
    authority: String,
    target: String,
}

impl Place {
    pub(super) fn read(text: &str, authority: Option<&Path>) -> Result<Self, Failure> {
        let wrong = || {
            usage(
                "this is no URL to measure",
                "write http://HOST:PORT/PATH or https://HOST/PATH",
            )
        };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let is_tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let (host, port) = (
            url.host_str().ok_or_else(wrong)?,
            url.port_or_known_default(),
        );
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.ok_or_else(wrong)?;
        let unreachable = |why: String| Failure {
            message: format!("{host} cannot be found: {why}"),
            advice: "check the URL".into(),
            code: UNREACHABLE,
        };
        let mut found = (bare, port)
            .to_socket_addrs()
            .map_err(|error| unreachable(error.to_string()))?;
        let address = found
            .next()
            .ok_or_else(|| unreachable("it has no address".into()))?;
        let loopback = address.ip().to_canonical().is_loopback();
        let tls = is_tls
            .then(|| Tls::to(bare, loopback, authority))
            .transpose()
            .map_err(|why| usage(why, "name a PEM file with `--ca-file`"))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            address,
            tls,
            authority,
            target,
        })
    }

    pub(super) fn request(&self, cookie: Option<&str>) -> Vec<u8> {
        let cookie = cookie.map_or_else(String::new, |cookie| format!("cookie: {cookie}\r\n"));
        format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: vestibule-bench\r\naccept: */*\r\n{cookie}\r\n",
            self.target, self.authority
        )
        .into_bytes()
    }

    pub(super) fn asked(
        &self,
        requests: Vec<Vec<u8>>,
        statuses: Statuses,
        wait: Duration,
    ) -> wire::Asked {
        wire::Asked {
            address: self.address,
            tls: self.tls.clone(),
            requests: Arc::new(requests),
            statuses,
            wait,
        }
    }
}
