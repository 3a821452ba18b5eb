//! Devise and Rails's own `has_secure_password`. (Sessions of Rails are read in `rails/`.)

mod export;

use crate::kind::Kind;
use crate::migration::import::source::Export;

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "devise",
    about: "Devise, Rails: the table of users as CSV, JSON or a dump",
    build: export::EXPORT,
};
