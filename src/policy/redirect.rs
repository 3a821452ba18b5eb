//! Where people are sent, and how they come back.

/// The pages people are sent to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `routes.sign_in`: a path, or an absolute URL.
    pub sign_in: String,
    /// `routes.return_param`.
    pub return_param: String,
    /// `routes.signed_in_home`.
    pub signed_in_home: String,
    /// `routes.forbidden`: the page a document gets instead of the built-in 403.
    pub forbidden: Option<String>,
    /// `nextjs.base_path`, with which the client side of the app expects its paths.
    pub base_path: String,
}
