//! How long it takes to find a route: `cargo bench --bench route`.
#![allow(clippy::panic)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use vestibule::app::NextJs;
use vestibule::policy::{Conditions, Need, Rule};
use vestibule::request::RequestView;
use vestibule::route::{RouteSpec, RouteTable, Settings, SourceSpec};
use vestibule::session::Freshness;
use vestibule::target::Target;

fn table(routes: usize, custom: bool) -> RouteTable {
    let rule = |need| Rule {
        need,
        freshness: Freshness::default(),
    };
    let route = |source: String| RouteSpec {
        sources: vec![SourceSpec {
            source,
            locale: true,
            ..SourceSpec::default()
        }],
        methods: Vec::new(),
        hosts: Vec::new(),
        upstream: 0,
        rule: rule(Need::SignedIn(Conditions::default())),
        app_caches: false,
        line: None,
    };
    let sources = (0..routes).map(|n| match n % 4 {
        0 => format!("/section-{n}"),
        1 => format!("/team/:team/page-{n}"),
        2 => format!("/area-{n}/:path*"),
        _ => format!("/api/v1/resource-{n}/:id"),
    });
    let last = custom.then(|| "/((?!api|_next/static|_next/image|favicon.ico).*)".to_owned());
    RouteTable::build(&Settings {
        nextjs: NextJs::default(),
        routes: sources.chain(last).map(route).collect(),
        default: rule(Need::Public),
        default_upstream: 0,
        same_app: Vec::new(),
        auth_base_path: "/api/auth".to_owned(),
        auth_upstream: 0,
        sign_in_path: Some("/sign-in".to_owned()),
        dev: false,
    })
    .unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn find(criterion: &mut Criterion) {
    let headers = HeaderMap::new();
    for routes in [10, 100, 1000] {
        let plain = table(routes, false);
        let custom = table(routes, true);
        let last = routes / 4 * 4;
        for (name, table, path) in [
            ("literal", &plain, format!("/section-{}", last - 4)),
            ("parameter", &plain, format!("/team/red/page-{}", last - 3)),
            ("catch-all", &plain, format!("/area-{}/a/b/c", last - 2)),
            (
                "deep parameter",
                &plain,
                format!("/api/v1/resource-{}/42", last - 1),
            ),
            ("default", &plain, "/nothing/of/the/kind".to_owned()),
            (
                "static asset",
                &plain,
                "/_next/static/chunks/main-0123456789abcdef.js".to_owned(),
            ),
            ("encoded", &plain, "/team/caf%C3%A9/page-1".to_owned()),
            (
                "data",
                &plain,
                "/_next/data/BUILD/section-0.json".to_owned(),
            ),
            ("expression", &custom, "/nothing/of/the/kind".to_owned()),
        ] {
            criterion.bench_with_input(BenchmarkId::new(name, routes), &path, |bench, path| {
                bench.iter(|| {
                    // Reading the target is part of it: every request pays for both.
                    let target = Target::parse(black_box(path.as_bytes()));
                    target.map(|target| {
                        table.find(&RequestView {
                            method: &Method::GET,
                            target,
                            host: "app.example.com",
                            headers: &headers,
                            client: std::net::Ipv4Addr::LOCALHOST.into(),
                        })
                    })
                });
            });
        }
    }
}

criterion_group!(benches, find);
criterion_main!(benches);
