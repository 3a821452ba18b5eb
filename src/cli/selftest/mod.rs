//! `vestibule selftest`: the known ways around an auth gateway, tried on the user's own running stack.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use url::{Host, Url};

mod report;
mod wire;

use report::{Counts, Report, Sent, Shown};
use wire::{Brought, Stop, Wire};

use super::tls::Tls;
use super::{DONE, Edges, Failure, Given, PROBLEMS, UNREACHABLE, USAGE, World, read_bounded};
use crate::config::{self, Config};
use crate::identity;
use crate::policy::Need as RuleNeed;
use crate::secret::Secret;
use crate::selftest::answer::{Answer, Reading};
use crate::selftest::show::Shower;
use crate::selftest::site::{MARK, PROBE_HEADER};
use crate::selftest::{
    self, Check, Echo, Expect, Heard, Outcome, Page, Probe, Site, Verdict, conclude, prepare,
};

/// Protected pages every spelling is tried for; more repeat what the first ones said.
const DOORS_MAX: usize = 4;
/// Protected pages looked for where nobody named any.
const USUAL_DOORS: [&str; 8] = [
    "/dashboard",
    "/account",
    "/settings",
    "/profile",
    "/admin",
    "/app",
    "/me",
    "/",
];
/// Public pages looked for where nobody named any.
const USUAL_PUBLIC: [&str; 7] = [
    "/",
    "/sign-in",
    "/login",
    "/about",
    "/pricing",
    "/robots.txt",
    "/favicon.ico",
];
/// A path that is nowhere.
const NOWHERE: &str = "/selftest-nowhere-5b1c";
/// Longest file with a cookie, in bytes: browsers keep less for a whole site.
const COOKIE_BYTES_MAX: usize = 16 * 1024;
/// Largest `--pause`: with more, the catalogue would take hours.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Largest `--limit`.
const LIMIT_MAX: Duration = Duration::from_secs(3600);

/// Arguments of `selftest`.
#[derive(Debug, clap::Args)]
pub struct Selftest {
    /// The configuration: names protected and public pages, and the host the gateway answers for.
    #[command(flatten)]
    pub given: Given,
    /// Where the stack listens, as http://127.0.0.1:8080.
    #[arg(required_unless_present = "list")]
    pub url: Option<String>,
    /// Test a stack that is not on this machine. It must be yours: these are attacks.
    #[arg(long)]
    pub i_own_this: bool,
    /// A path that must not open without a session. May be given several times.
    #[arg(long, value_name = "PATH")]
    pub protected: Vec<String>,
    /// A path that opens for everybody.
    #[arg(long, value_name = "PATH")]
    pub public: Option<String>,
    /// A page of the app that reports the headers and the target it saw. Without it, nothing about headers is checked.
    #[arg(long, value_name = "PATH")]
    pub echo: Option<String>,
    /// What `Host` says. Default: of the URL, or of `public_url` when a configuration is given.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// A file with the `Cookie` header of a live session that may see the protected pages.
    #[arg(long, value_name = "FILE")]
    pub cookie_file: Option<PathBuf>,
    /// A file with the `Cookie` header of a session that was signed out.
    #[arg(long, value_name = "FILE")]
    pub ended_cookie_file: Option<PathBuf>,
    /// The id of a Server Action that only protected pages use.
    #[arg(long, value_name = "ID")]
    pub action: Option<String>,
    /// Check the certificate of an https URL against this authority (PEM).
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Make only these checks: ids or families, separated by commas.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Tell what would be checked, and send nothing.
    #[arg(long)]
    pub list: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show for every check what was sent, expected and got.
    #[arg(long, short)]
    pub verbose: bool,
    /// Wait this long before each request, so that limits are not tripped.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = time)]
    pub pause: Duration,
    /// Wait at most this long for one answer.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub wait: Duration,
    /// End after this time, whatever is left.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    pub limit: Duration,
}

fn time(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "write a time with its unit: 20ms, 5s or 2m".into())
}

fn usage(message: impl Into<String>, advice: impl Into<String>) -> Failure {
    Failure {
        message: message.into(),
        advice: advice.into(),
        code: USAGE,
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        let advice = match stop {
            Stop::Unreachable(..) => "start the stack, or name another URL",
            Stop::Spent(_) => "narrow the run with `--only`, or give it more time with `--limit`",
        };
        Self {
            message: stop.to_string(),
            advice: advice.into(),
            code: UNREACHABLE,
        }
    }
}

impl Selftest {
    /// Tries everything and tells what came of it.
    ///
    /// # Errors
    /// When the arguments make no run, or the stack cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let checks = self.chosen()?;
        if self.list {
            world.say(&report::list(&checks, self.json));
            return Ok(DONE);
        }
        if self.pause > PAUSE_MAX || self.limit > LIMIT_MAX || self.wait > self.limit {
            return Err(usage(
                "`--pause`, `--wait` or `--limit` is too long",
                "the pause is 10s at most, the limit 1h, and no wait is longer than the limit",
            ));
        }
        let config = self.config(world, edges)?;
        let place = Place::read(self.url.as_deref().unwrap_or_default())?;
        let address = place.resolve(self.i_own_this)?;
        let host = self.host(&place, config.as_ref())?;
        let mut known = Known::of(config.as_ref());
        known.asked(&self)?;
        let cookie =
            |file: &Option<PathBuf>| file.as_deref().map(|f| read_cookie(world, f)).transpose();
        let (session, ended) = (cookie(&self.cookie_file)?, cookie(&self.ended_cookie_file)?);
        let tls = if place.tls {
            let authority = self.ca_file.as_ref().map(|path| world.path(path));
            let loopback = address.ip().to_canonical().is_loopback();
            let name = host_name(&host);
            let tls = Tls::to(name, loopback, authority.as_deref())
                .map_err(|cause| usage(cause, "name a PEM file with `--ca-file`"))?;
            Some(tls)
        } else {
            None
        };
        let mut wire = Wire {
            address,
            tls,
            pause: self.pause,
            wait: self.wait,
            end: Instant::now() + self.limit,
            made: 0,
        };
        let origin = config.as_ref().filter(|_| self.host.is_none()).map_or_else(
            || format!("{}://{host}", place.scheme()),
            |config| config.server.public_url.trim_end_matches('/').to_owned(),
        );
        let shower = Shower::new(session.iter().chain(&ended));
        let mut notes = Vec::new();
        let mut scout = Scout {
            wire: &mut wire,
            notes: &mut notes,
        };
        let mut site = Site {
            origin,
            host,
            protected: Vec::new(),
            public: None,
            open: Vec::new(),
            session: None,
            ended,
            echo: None,
            action: self.action.clone(),
            identity: identity::header_names().map(str::to_owned).collect(),
        };
        scout.find(&mut site, &known, session, self.echo.as_deref())?;
        let mut shown: Vec<Shown> = Vec::new();
        for check in &checks {
            shown.push(make(check, &site, &mut wire, &shower)?);
        }
        control(&site, &mut wire)?;
        let report = Report {
            url: self.url.clone().unwrap_or_default(),
            address: address.to_string(),
            host: site.host.clone(),
            protected: site.doors().map(str::to_owned).collect(),
            public: site.public.as_ref().map(|page| page.path.clone()),
            echo: site.echo.as_ref().map(|echo| echo.path.clone()),
            session: site.session.is_some(),
            requests: wire.made,
            notes,
            counts: Counts::of(&shown),
            checks: shown,
            unseen: report::unseen(),
        };
        world.say(&if self.json {
            report.to_json()?
        } else {
            report.to_text(self.verbose)
        });
        Ok(if report.counts.failed > 0 {
            PROBLEMS
        } else {
            DONE
        })
    }

    /// The checks asked for, in the order of the catalogue.
    fn chosen(&self) -> Result<Vec<&'static Check>, Failure> {
        let names = |check: &Check, asked: &str| {
            check.id.eq_ignore_ascii_case(asked) || check.family.eq_ignore_ascii_case(asked)
        };
        for asked in &self.only {
            if !selftest::catalogue().any(|check| names(check, asked)) {
                return Err(usage(
                    format!("there is no check `{asked}`"),
                    "`vestibule selftest --list` names them",
                ));
            }
        }
        Ok(selftest::catalogue()
            .filter(|check| {
                self.only.is_empty() || self.only.iter().any(|asked| names(check, asked))
            })
            .collect())
    }

    /// The configuration, where one is named.
    fn config(&self, world: &mut World<'_>, edges: Edges) -> Result<Option<Config>, Failure> {
        let named =
            self.given.config.is_some() || world.environment.contains_key("VESTIBULE_CONFIG");
        if !named && !world.path(&self.given.file(world)).exists() {
            return Ok(None);
        }
        match self.given.load(world, edges) {
            Ok(Ok(loaded)) => Ok(Some(loaded.config)),
            // Found by chance, and of no use here: the run goes on without it.
            _ if !named => Ok(None),
            Ok(Err(problems)) => {
                let style = world.style();
                world.complain(&problems.render(style));
                Err(usage(
                    "the configuration cannot be used",
                    "mend it, or name the pages with `--protected` and `--public`",
                ))
            }
            Err(failure) => Err(failure),
        }
    }

    fn host(&self, place: &Place, config: Option<&Config>) -> Result<String, Failure> {
        let host = match (&self.host, config) {
            (Some(host), _) => host.clone(),
            (None, Some(config)) => Url::parse(&config.server.public_url)
                .ok()
                .and_then(|url| authority(&url))
                .unwrap_or_else(|| place.authority.clone()),
            (None, None) => place.authority.clone(),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(usage(
                "`--host` is no host",
                "as in `--host app.example.com`",
            ));
        }
        Ok(host)
    }
}

/// Host, and port where it is not the usual one.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn host_name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

/// Where the stack is said to be.
struct Place {
    tls: bool,
    authority: String,
    host: String,
    port: u16,
}

impl Place {
    fn read(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            usage(
                "this is no address of a site",
                "as in `http://127.0.0.1:8080`",
            )
        };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !plain {
            return Err(wrong());
        }
        let host = match url.host().ok_or_else(wrong)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        Ok(Self {
            tls: url.scheme() == "https",
            authority: authority(&url).ok_or_else(wrong)?,
            host,
            port: url.port_or_known_default().ok_or_else(wrong)?,
        })
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The address that is asked. What the name says is no proof: what it resolves to counts.
    fn resolve(&self, owned: bool) -> Result<SocketAddr, Failure> {
        let addresses: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| Failure {
                message: format!("{} has no address: {error}", self.host),
                advice: "name another URL".into(),
                code: UNREACHABLE,
            })?
            .collect();
        let loopback = |address: &&SocketAddr| address.ip().to_canonical().is_loopback();
        if let Some(address) = addresses.iter().find(|address| !loopback(address))
            && !owned
        {
            return Err(usage(
                format!(
                    "{} is {}, which is not this machine",
                    self.host,
                    address.ip()
                ),
                "these are attacks: pass `--i-own-this` when the stack is yours",
            ));
        }
        // A name may stand for both families, and the stack may listen on one of them.
        addresses
            .iter()
            .find(|address| {
                std::net::TcpStream::connect_timeout(address, Duration::from_secs(2)).is_ok()
            })
            .or(addresses.first())
            .copied()
            .ok_or_else(|| Failure {
                message: format!("{} has no address", self.host),
                advice: "name another URL".into(),
                code: UNREACHABLE,
            })
    }
}

/// A `Cookie` header from a file: with or without its name in front.
fn read_cookie(world: &World<'_>, path: &Path) -> Result<Secret, Failure> {
    let advice = "write one line `NAME=VALUE; NAME=VALUE`, as a browser sends it";
    let text = read_bounded(&world.path(path), COOKIE_BYTES_MAX).map_err(|error| {
        usage(
            format!("{} cannot be read: {error}", path.display()),
            advice,
        )
    })?;
    let line = text.trim();
    let line = match line.get(..7) {
        Some(name) if name.eq_ignore_ascii_case("cookie:") => {
            line.get(7..).unwrap_or_default().trim()
        }
        _ => line,
    };
    let fits = line.len() <= COOKIE_BYTES_MAX
        && line.contains('=')
        && line.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !fits {
        return Err(usage(format!("{} holds no cookie", path.display()), advice));
    }
    Ok(Secret::new(line))
}

/// Pages that were named, and those to look for.
#[derive(Default)]
struct Known {
    named: bool,
    doors: Vec<String>,
    public_named: bool,
    public: Vec<String>,
}

impl Known {
    /// The pages of a configuration: of each pattern what stands before its first parameter.
    fn of(config: Option<&Config>) -> Self {
        let mut known = Self::default();
        for route in config.iter().flat_map(|config| &config.routes.routes) {
            for source in &route.sources {
                let end = source
                    .source
                    .find([':', '(', '{', '*', '+', '?', '\\'])
                    .unwrap_or(source.source.len());
                let path = source.source.get(..end).unwrap_or_default();
                let path = path.trim_end_matches('/');
                let path = if path.is_empty() { "/" } else { path };
                let narrowed = !route.methods.is_empty()
                    || !source.has.is_empty()
                    || !source.missing.is_empty();
                if end < source.source.len() && path == "/" || narrowed || !is_path(path) {
                    continue;
                }
                match route.rule.need {
                    RuleNeed::Public => known.public.push(path.to_owned()),
                    RuleNeed::SignedIn(_) => known.doors.push(path.to_owned()),
                    RuleNeed::Optional | RuleNeed::Guest | RuleNeed::Deny => {}
                }
            }
        }
        known.doors.extend(USUAL_DOORS.map(str::to_owned));
        known.public.extend(USUAL_PUBLIC.map(str::to_owned));
        known
    }

    /// What the arguments say wins.
    fn asked(&mut self, arguments: &Selftest) -> Result<(), Failure> {
        let paths = arguments
            .protected
            .iter()
            .chain(&arguments.public)
            .chain(&arguments.echo);
        for path in paths {
            if !is_path(path) {
                return Err(usage(
                    format!("`{path}` is no path of letters, digits and slashes"),
                    "name a plain path, as in `--protected /dashboard`: the spellings are tried by this command",
                ));
            }
        }
        if arguments.protected.len() > DOORS_MAX {
            return Err(usage(
                format!("more than {DOORS_MAX} protected pages"),
                "one for each rule is enough: run the command again for others",
            ));
        }
        if !arguments.protected.is_empty() {
            (self.named, self.doors) = (true, arguments.protected.clone());
        }
        if let Some(public) = &arguments.public {
            (self.public_named, self.public) = (true, vec![public.clone()]);
        }
        Ok(())
    }
}

/// A path that has one spelling.
fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && path.len() <= 512
        && path
            .split('/')
            .all(|segment| segment != "." && segment != "..")
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~@".contains(&byte))
}

/// Learns what the checks compare with.
struct Scout<'w> {
    wire: &'w mut Wire,
    notes: &'w mut Vec<String>,
}

impl Scout<'_> {
    fn ask(&mut self, sent: &[u8]) -> Result<Answer, Failure> {
        let brought = self.wire.exchange(sent, Reading::One)?;
        brought.answers.into_iter().next().ok_or_else(|| Failure {
            message: if brought.late {
                format!("{} does not answer in time", self.wire.address)
            } else {
                format!("{} closes without an answer", self.wire.address)
            },
            advice: "is this the port of the gateway, and the right scheme?".into(),
            code: UNREACHABLE,
        })
    }

    fn find(
        &mut self,
        site: &mut Site,
        known: &Known,
        session: Option<Secret>,
        echo: Option<&str>,
    ) -> Result<(), Failure> {
        self.find_doors(site, known)?;
        self.find_public(site, known)?;
        let nowhere = self.ask(&site.get(NOWHERE, &[]))?;
        site.open.push(nowhere);
        self.find_sign_in(site)?;
        if let Some(cookie) = session {
            self.try_session(site, cookie)?;
        }
        if let Some(path) = echo {
            self.try_echo(site, path)?;
        }
        Ok(())
    }

    fn find_doors(&mut self, site: &mut Site, known: &Known) -> Result<(), Failure> {
        for path in &known.doors {
            if site.protected.len() >= DOORS_MAX
                || site.protected.iter().any(|page| page.path == *path)
            {
                continue;
            }
            // One that was found is enough: those that were named are all asked.
            if !known.named && !site.protected.is_empty() {
                break;
            }
            let anonymous = self.ask(&site.get(path, &[]))?;
            if let Some(wrong) = not_refused(path, &anonymous) {
                if anonymous.status == 421 {
                    return Err(usage(
                        format!("the gateway does not answer for the host `{}`", site.host),
                        "name the host that browsers see with `--host`, or the configuration with `--config`",
                    ));
                }
                if known.named {
                    let code = if anonymous.is_success() {
                        PROBLEMS
                    } else {
                        USAGE
                    };
                    return Err(Failure {
                        message: wrong,
                        advice: "nothing else was sent: name a page with `--protected` that wants a session".into(),
                        code,
                    });
                }
                continue;
            }
            site.protected.push(Page {
                path: path.clone(),
                anonymous,
                signed_in: None,
            });
        }
        if site.protected.is_empty() {
            return Err(usage(
                "no protected page was found",
                "name one that wants a session with `--protected PATH`",
            ));
        }
        Ok(())
    }

    fn find_public(&mut self, site: &mut Site, known: &Known) -> Result<(), Failure> {
        for path in &known.public {
            let anonymous = self.ask(&site.get(path, &[]))?;
            if anonymous.is_success() {
                site.public = Some(Page {
                    path: path.clone(),
                    anonymous,
                    signed_in: None,
                });
                return Ok(());
            }
            if known.public_named {
                return Err(usage(
                    format!("`{path}` answers {} without a session", anonymous.status),
                    "name a page with `--public` that everybody may see",
                ));
            }
        }
        self.notes
            .push("no public page was found: name one with `--public PATH`".into());
        Ok(())
    }

    /// The page anonymous people are sent to is one anybody may see.
    fn find_sign_in(&mut self, site: &mut Site) -> Result<(), Failure> {
        let document = site.document(site.door(), &[]);
        let answer = self.ask(&document)?;
        let goal = answer
            .header("location")
            .filter(|location| !site.leaves(location))
            .and_then(|location| Url::parse(&site.origin).ok()?.join(location).ok())
            .filter(|goal| !site.doors().any(|door| goal.path() == door));
        if let Some(goal) = goal {
            let page = self.ask(&site.document(goal.path(), &[]))?;
            site.open.push(page);
        }
        site.open.push(answer);
        Ok(())
    }

    fn try_session(&mut self, site: &mut Site, cookie: Secret) -> Result<(), Failure> {
        let mut opened = false;
        for at in 0..site.protected.len() {
            let Some(path) = site.protected.get(at).map(|page| page.path.clone()) else {
                continue;
            };
            let answer = self.ask(&site.get(&path, &[("Cookie", cookie.expose())]))?;
            if answer.is_success() {
                opened = true;
                if let Some(page) = site.protected.get_mut(at) {
                    page.signed_in = Some(answer);
                }
            } else {
                self.notes
                    .push(format!("{path} answers {} to the session", answer.status));
            }
        }
        if opened {
            site.session = Some(cookie);
        } else {
            self.notes
                .push("the session opens no protected page: what needs one is not checked".into());
        }
        Ok(())
    }

    fn try_echo(&mut self, site: &mut Site, path: &str) -> Result<(), Failure> {
        let session = site.session.clone();
        let mut echo = Echo {
            path: path.to_owned(),
            open: true,
            shows_target: false,
            anonymous: None,
            signed_in: None,
        };
        let shows = |answer: &Answer| answer.is_success() && answer.text().contains(MARK);
        let marked = [(PROBE_HEADER, MARK)];
        if !shows(&self.ask(&site.ask_echo_as(&echo, None, "", &marked))?) {
            let signed_in = match &session {
                Some(_) => self.ask(&site.ask_echo_as(&echo, session.as_ref(), "", &marked))?,
                None => Answer::default(),
            };
            if !shows(&signed_in) {
                self.notes.push(format!(
                    "{path} does not report the headers of a request: what the app sees is not checked"
                ));
                return Ok(());
            }
            echo.open = false;
        }
        if echo.open {
            echo.anonymous = Some(self.ask(&site.ask_echo_as(&echo, None, "", &[]))?);
        }
        if session.is_some() {
            echo.signed_in = Some(self.ask(&site.ask_echo_as(&echo, session.as_ref(), "", &[]))?);
        }
        // A page that says the mark by itself can prove nothing.
        if echo
            .anonymous
            .iter()
            .chain(&echo.signed_in)
            .any(|answer| answer.text().contains(MARK))
        {
            self.notes
                .push(format!("{path} says `{MARK}` whatever it is sent"));
            return Ok(());
        }
        let asked = self.ask(&site.ask_echo(&echo, &format!("?selftest={MARK}"), &[]))?;
        echo.shows_target = asked.text().contains(&format!("{path}?selftest={MARK}"));
        if !echo.shows_target {
            self.notes
                .push(format!("{path} does not report the target it saw"));
        }
        site.echo = Some(echo);
        Ok(())
    }
}

/// Why an anonymous answer is no refusal.
fn not_refused(path: &str, answer: &Answer) -> Option<String> {
    let refused = match answer.status {
        401 | 403 => true,
        301..=303 | 307 | 308 => {
            let location = answer.header("location").unwrap_or_default();
            let same = location.split(['?', '#']).next().unwrap_or_default();
            // A slash put on or taken off is no refusal.
            same.trim_end_matches('/') != path.trim_end_matches('/') || path == "/"
        }
        _ => false,
    };
    (!refused).then(|| {
        format!(
            "`{path}` is not protected: an anonymous request gets {}",
            answer.status
        )
    })
}

/// Makes one check.
fn make(
    check: &'static Check,
    site: &Site,
    wire: &mut Wire,
    shower: &Shower,
) -> Result<Shown, Failure> {
    let probes = match prepare(check, site) {
        Ok(probes) => probes,
        Err(missing) => return Ok(Shown::new(check, Outcome::NotChecked(missing), Vec::new())),
    };
    let mut sent = Vec::new();
    let mut verdicts = Vec::new();
    for probe in &probes {
        let (verdict, got) = match send(probe, site, wire) {
            Ok(done) => done,
            // What is left is told as not checked, not as passed.
            Err(Stop::Spent(why)) => (Verdict::Unclear(why.into()), "nothing was sent".into()),
            Err(stop) => return Err(stop.into()),
        };
        sent.push(Sent {
            sent: shower.bytes(&probe.sent),
            expected: probe.expect.to_text(),
            got: shower.text(&got),
            status: match &verdict {
                Verdict::Passed => "passed",
                Verdict::Failed(_) => "failed",
                Verdict::Unclear(_) => "not_checked",
            },
        });
        verdicts.push(verdict);
    }
    Ok(Shown::new(check, conclude(&verdicts), sent))
}

fn send(probe: &Probe, site: &Site, wire: &mut Wire) -> Result<(Verdict, String), Stop> {
    let Brought { answers, late } = wire.exchange(&probe.sent, probe.reading)?;
    let afterwards = match &site.public {
        Some(public) if probe.afterwards => wire
            .exchange(&site.get(&public.path, &[]), Reading::One)?
            .answers
            .into_iter()
            .next(),
        _ => None,
    };
    let silent = late && answers.is_empty();
    let heard = Heard {
        answers,
        afterwards,
    };
    let got = report::got(&heard, late);
    // Silence is what waiting for the rest of a body looks like; to a whole request it says nothing.
    if silent && !matches!(probe.expect, Expect::AnswersAtMost(_)) {
        return Ok((Verdict::Unclear("no answer in time".into()), got));
    }
    let verdict = probe.expect.judge(site, &heard);
    let got = match &verdict {
        Verdict::Failed(why) | Verdict::Unclear(why) => format!("{why}; {got}"),
        Verdict::Passed => got,
    };
    Ok((verdict, got))
}

/// The stack must answer as it did at the beginning: refusals of one that is down prove nothing.
fn control(site: &Site, wire: &mut Wire) -> Result<(), Failure> {
    for page in site.protected.iter().take(1).chain(&site.public) {
        let answer = match wire.exchange(&site.get(&page.path, &[]), Reading::One) {
            Ok(brought) => brought.answers.into_iter().next().unwrap_or_default(),
            // The time is over: nothing that was not checked counts as passed.
            Err(Stop::Spent(_)) => return Ok(()),
            Err(stop) => return Err(stop.into()),
        };
        if answer.status != page.anonymous.status {
            return Err(Failure {
                message: format!(
                    "at the end {} answers {} instead of {}: what was checked in between does not count",
                    page.path, answer.status, page.anonymous.status
                ),
                advice: "look whether the stack is down, or counts requests; a longer `--pause` may help".into(),
                code: UNREACHABLE,
            });
        }
    }
    Ok(())
}
