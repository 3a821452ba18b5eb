//! Asks at a fixed rate and says how long answers took, counted from when each request was due, not from when it was sent: a proxy that
//! stalls cannot make its own load wait (coordinated omission). Nothing but the standard library.
//!
//! `pace ADDRESS REQUESTS-FILE RATE CONNECTIONS WARM-SECONDS SECONDS`; the file holds whole requests, each ending with an empty line.
//! One JSON line: requests, errors, late (share sent over a millisecond after they were due), and quantiles in microseconds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// An answer that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Later than this, and the request waited for the answer before it.
const LATE: Duration = Duration::from_millis(1);

struct Plan {
    address: String,
    requests: Vec<Vec<u8>>,
    connections: u32,
    every: Duration,
    begin: Instant,
    warm_until: Instant,
    end: Instant,
}

#[derive(Default)]
struct Seen {
    micros: Vec<u64>,
    errors: u64,
    late: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pace: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, file, rate, connections, warm, seconds] = arguments.as_slice() else {
        return Err(
            "usage: pace ADDRESS REQUESTS-FILE RATE CONNECTIONS WARM-SECONDS SECONDS".into(),
        );
    };
    // Threads inherit it: a sleep ends when it is over, not up to 50 microseconds later.
    fs::write("/proc/self/timerslack_ns", "1").ok();
    let requests = split(&fs::read(file)?);
    if requests.is_empty() {
        return Err("the file holds no request".into());
    }
    let (rate, connections): (f64, u32) = (rate.parse()?, connections.parse()?);
    let begin = Instant::now() + Duration::from_millis(200);
    let warm_until = begin + Duration::from_secs_f64(warm.parse()?);
    let plan = Arc::new(Plan {
        address: address.clone(),
        requests,
        connections,
        every: Duration::from_secs_f64(f64::from(connections) / rate),
        begin,
        warm_until,
        end: warm_until + Duration::from_secs_f64(seconds.parse()?),
    });
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let plan = Arc::clone(&plan);
            thread::spawn(move || keep(&plan, number))
        })
        .collect();
    let mut all = Seen::default();
    for thread in threads {
        let seen = thread.join().map_err(|_| "a thread failed")?;
        all.micros.extend(seen.micros);
        all.errors += seen.errors;
        all.late += seen.late;
    }
    all.micros.sort_unstable();
    let count = all.micros.len();
    if count == 0 {
        return Err("nobody answered".into());
    }
    let at = |quantile: f64| all.micros[((count as f64 * quantile) as usize).min(count - 1)];
    Ok(format!(
        r#"{{"requests":{count},"errors":{},"late":{:.4},"p50":{},"p90":{},"p99":{},"p999":{},"max":{}}}"#,
        all.errors,
        all.late as f64 / count as f64,
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        all.micros[count - 1],
    ))
}

/// Keeps one connection's share of the pace: request k of connection n is due at k intervals and n shares of one.
fn keep(plan: &Plan, number: u32) -> Seen {
    let mut seen = Seen::default();
    let mut stream = None;
    let mut due = plan.begin
        + plan
            .every
            .mul_f64(f64::from(number) / f64::from(plan.connections));
    let mut turn = number as usize;
    while due < plan.end {
        let now = Instant::now();
        if now < due {
            thread::sleep(due - now);
        }
        let measured = due >= plan.warm_until;
        if measured && due.elapsed() > LATE {
            seen.late += 1;
        }
        match ask(
            &mut stream,
            &plan.address,
            &plan.requests[turn % plan.requests.len()],
        ) {
            Ok(()) if measured => seen.micros.push(due.elapsed().as_micros() as u64),
            Ok(()) => {}
            Err(_) => {
                stream = None;
                seen.errors += u64::from(measured);
            }
        }
        turn += plan.connections as usize;
        due += plan.every;
    }
    seen
}

/// Sends one request and reads its answer, which must be a 200 that says its length.
fn ask(
    stream: &mut Option<TcpStream>,
    address: &str,
    request: &[u8],
) -> Result<(), Box<dyn std::error::Error>> {
    if stream.is_none() {
        let new = TcpStream::connect(address)?;
        new.set_nodelay(true)?;
        new.set_read_timeout(Some(PATIENCE))?;
        *stream = Some(new);
    }
    let stream = stream.as_mut().ok_or("no connection")?;
    stream.write_all(request)?;
    let (mut buffer, mut held) = ([0; 8192], 0);
    loop {
        let read = stream.read(buffer.get_mut(held..).ok_or("the head is too long")?)?;
        if read == 0 {
            return Err("closed".into());
        }
        held += read;
        let Some(head) = buffer[..held]
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
        else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head])?;
        if !text.starts_with("HTTP/1.1 200") {
            return Err("not a 200".into());
        }
        let length: usize = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .ok_or("no length")?
            .1
            .trim()
            .parse()?;
        let mut missing = (head + 4 + length)
            .checked_sub(held)
            .ok_or("more than was said")?;
        while missing > 0 {
            let part = missing.min(buffer.len());
            let read = stream.read(&mut buffer[..part])?;
            if read == 0 {
                return Err("closed".into());
            }
            missing -= read;
        }
        return Ok(());
    }
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    let mut begin = 0;
    let mut at = 0;
    while at + 4 <= bytes.len() {
        if &bytes[at..at + 4] == b"\r\n\r\n" {
            requests.push(bytes[begin..at + 4].to_vec());
            begin = at + 4;
            at = begin;
        } else {
            at += 1;
        }
    }
    requests
}
