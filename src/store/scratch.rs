//! A place of its own for sessions that are made to be measured: the app's tables are looked at, and neither read nor written.
//!
//! An SQLite file gets a copy of its tables, without rows, in a folder of ours; PostgreSQL a schema of its own, MySQL a database, Redis a
//! prefix before every key. All of it is taken away again. What is left when we are killed outright is named after us, and in Redis
//! ends by itself.

use std::path::{Path, PathBuf};

use super::{Address, OpenError, Opening, Settings, kind_of, sqlite};
use crate::migration::accounts::NewSession;
use crate::secret::Secret;

/// The tables of Better Auth's own migration.
///
/// Source: better-auth 1.7, `npx auth migrate` for SQLite.
const TABLES: &str = "
CREATE TABLE \"user\" (\"id\" text NOT NULL PRIMARY KEY, \"name\" text NOT NULL, \"email\" text NOT NULL UNIQUE,
  \"emailVerified\" integer NOT NULL, \"image\" text, \"createdAt\" date NOT NULL, \"updatedAt\" date NOT NULL);
CREATE TABLE \"session\" (\"id\" text NOT NULL PRIMARY KEY, \"expiresAt\" date NOT NULL, \"token\" text NOT NULL UNIQUE,
  \"createdAt\" date NOT NULL, \"updatedAt\" date NOT NULL, \"ipAddress\" text, \"userAgent\" text,
  \"userId\" text NOT NULL REFERENCES \"user\" (\"id\") ON DELETE CASCADE);
CREATE TABLE \"account\" (\"id\" text NOT NULL PRIMARY KEY, \"accountId\" text NOT NULL, \"providerId\" text NOT NULL,
  \"userId\" text NOT NULL REFERENCES \"user\" (\"id\") ON DELETE CASCADE, \"accessToken\" text, \"refreshToken\" text, \"idToken\" text,
  \"accessTokenExpiresAt\" date, \"refreshTokenExpiresAt\" date, \"scope\" text, \"password\" text, \"createdAt\" date NOT NULL,
  \"updatedAt\" date NOT NULL);
CREATE TABLE \"verification\" (\"id\" text NOT NULL PRIMARY KEY, \"identifier\" text NOT NULL, \"value\" text NOT NULL,
  \"expiresAt\" date NOT NULL, \"createdAt\" date NOT NULL, \"updatedAt\" date NOT NULL);
CREATE INDEX \"session_userId_idx\" ON \"session\" (\"userId\");
CREATE INDEX \"account_userId_idx\" ON \"account\" (\"userId\");
";

/// Where a scratch is made.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name, which nobody else has: of a schema, a database or a prefix.
    pub name: String,
    /// A folder of ours, for files.
    pub folder: PathBuf,
}

/// What every kind of store does its own way.
pub(super) struct By {
    pub(super) make: fn(Settings, Place) -> Opening<Settings>,
    pub(super) fill: fn(Settings, Vec<NewSession>) -> Opening<()>,
    pub(super) end: fn(Settings, Vec<NewSession>) -> Opening<()>,
    /// Of the app's settings, with every session that was made.
    pub(super) remove: fn(Settings, Place, Vec<NewSession>) -> Opening<()>,
}

/// Where measured sessions are.
pub struct Scratch {
    by: &'static By,
    app: Settings,
    own: Settings,
    place: Place,
    made: Vec<NewSession>,
}

/// Whether measuring at this store makes anything where the app's own data are. A file of its own is none of it.
pub fn writes_beside_the_app(settings: &Settings) -> bool {
    kind_of(&settings.url).is_ok_and(|kind| kind.build.address == Address::Server)
}

/// Whether sessions can be made to be measured at this store.
pub fn can_be_made(settings: &Settings) -> bool {
    kind_of(&settings.url).is_ok_and(|kind| kind.build.scratch.is_some())
}

impl Scratch {
    /// A place beside the app's own data.
    ///
    /// # Errors
    /// When the store can have none, cannot be reached, or does not let this role make it.
    pub async fn beside(app: &Settings, place: Place) -> Result<Self, OpenError> {
        let kind = kind_of(&app.url)?;
        let by = kind.build.scratch.as_ref().ok_or_else(|| OpenError::Url {
            store: kind.name,
            cause: "no sessions can be made there".to_owned(),
        })?;
        let own = (by.make)(app.clone(), place.clone()).await?;
        Ok(Self {
            by,
            app: app.clone(),
            own,
            place,
            made: Vec::new(),
        })
    }

    /// A store that is nobody's already, and is taken away by whoever made it.
    ///
    /// # Errors
    /// When the store can have no scratch.
    pub fn adopt(own: Settings, place: Place) -> Result<Self, OpenError> {
        let kind = kind_of(&own.url)?;
        let by = kind.build.scratch.as_ref().ok_or_else(|| OpenError::Url {
            store: kind.name,
            cause: "no sessions can be made there".to_owned(),
        })?;
        Ok(Self {
            by,
            app: own.clone(),
            own,
            place,
            made: Vec::new(),
        })
    }

    /// Fills an empty file with the framework's own tables: `settings` but for the address.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn make_file(settings: Settings, folder: &Path) -> Result<Settings, OpenError> {
        let place = Place {
            name: String::new(),
            folder: folder.to_owned(),
        };
        sqlite::scratch_file(settings, &place, TABLES).await
    }

    /// How to reach it.
    pub const fn settings(&self) -> &Settings {
        &self.own
    }

    /// Makes sessions, each with a user of its own.
    ///
    /// # Errors
    /// When the store does not take them.
    pub async fn fill(&mut self, sessions: Vec<NewSession>) -> Result<(), OpenError> {
        // Noted first: what is half made is taken away too.
        self.made.extend(sessions.iter().cloned());
        (self.by.fill)(self.own.clone(), sessions).await
    }

    /// Ends some of them.
    ///
    /// # Errors
    /// When the store does not say that it is done.
    pub async fn end(&self, tokens: &[Secret]) -> Result<(), OpenError> {
        let named = |session: &&NewSession| tokens.contains(&session.token);
        let sessions = self.made.iter().filter(named).cloned().collect();
        (self.by.end)(self.own.clone(), sessions).await
    }

    /// Takes all of it away.
    ///
    /// # Errors
    /// When the store does not say that it is done.
    pub async fn remove(&mut self) -> Result<(), OpenError> {
        let made = self.made.clone();
        (self.by.remove)(self.app.clone(), self.place.clone(), made).await?;
        self.made.clear();
        Ok(())
    }

    /// What it is called, for people.
    pub fn name(&self) -> &str {
        &self.place.name
    }
}
