//! Who am I: what the app is told in headers, for the page itself. Never a token.

use http::header::ORIGIN;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;

use super::respond::{self, Answer};
use crate::gate::Gate;
use crate::request::{Form, RequestView};
use crate::session::Rejection;
use crate::session::cache::Entry;
use crate::session::resolve::{Resolution, Who};

/// The endpoint.
pub(super) const PATH: &str = "/_vestibule/userinfo";

/// Says who is calling, at most `cache_ttl` ago: 401 for strangers, 503 where that cannot be found out.
pub(super) async fn answer(
    request: &RequestView<'_>,
    gate: &Gate,
    public_url: &str,
    request_id: &str,
) -> Answer {
    if *request.method != Method::GET && *request.method != Method::HEAD {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return respond::problem(status, "Method Not Allowed", "method", request_id);
    }
    // No page of another origin may read it anyway; it need not even cost a lookup.
    if !is_same_origin(request, public_url) {
        return respond::problem(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "cross_origin",
            request_id,
        );
    }
    let mut answer = match gate.who(request).await {
        Resolution::Verified(Who::Known(entry)) => respond::json(StatusCode::OK, &facts(&entry)),
        Resolution::Rejected(Rejection::Limited { retry_after }) => {
            respond::too_many(Form::Program, retry_after, request_id)
        }
        Resolution::Unavailable => respond::unavailable(Form::Program, request_id),
        // A signature alone says of nobody that he is signed in. It is not asked for here.
        Resolution::Anonymous
        | Resolution::Rejected(_)
        | Resolution::Verified(Who::SignatureOnly) => {
            let status = StatusCode::UNAUTHORIZED;
            respond::problem(status, "Unauthorized", "unauthorized", request_id)
        }
    };
    let nosniff = HeaderValue::from_static("nosniff");
    answer
        .headers
        .push((HeaderName::from_static("x-content-type-options"), nosniff));
    answer
}

fn is_same_origin(request: &RequestView<'_>, public_url: &str) -> bool {
    if request.headers.contains_key("sec-fetch-site") {
        return matches!(
            request.header("sec-fetch-site"),
            Some("same-origin" | "none")
        );
    }
    let ours = |origin: &HeaderValue| origin.as_bytes() == public_url.as_bytes();
    request.headers.get_all(ORIGIN).iter().all(ours)
}

fn facts(entry: &Entry) -> serde_json::Value {
    let organization = entry.organization_id().map(
        |id| json!({ "id": id, "role": entry.organization_role(), "team_id": entry.team_id() }),
    );
    json!({
        "method": entry.method().as_str(),
        "user": {
            "id": entry.user_id(),
            "email": entry.email(),
            "email_verified": entry.email_verified(),
            "name": entry.name(),
            "role": entry.role(),
        },
        "session": {
            "id": entry.session_id(),
            "expires_at": entry.expires_at().0.div_euclid(1000),
            "impersonated_by": entry.impersonated_by(),
        },
        "organization": organization,
    })
}
