//! ASP.NET Identity.

mod export;

use crate::kind::Kind;
use crate::migration::import::source::Export;

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "aspnet",
    about: "ASP.NET Identity: its tables as JSON, a dump, or CSV each",
    build: export::EXPORT,
};
