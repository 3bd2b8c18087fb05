//! The users that a configuration file asks for, with RabbitMQ's keys: `default_user` and what begins
//! with it, `default_permissions.*`, `default_users.NAME.*`, `loopback_users.*`.

use std::collections::BTreeMap;

use super::ConfigError;
use super::file::{Refused, password, short};
use super::value;
use crate::base::settings::{Permissions, Secret, User};
use crate::base::{Name, Pattern};

const GUEST: &str = "guest";
/// The vhost that is always there.
pub(super) const ROOT: &str = "/";

/// What a file says of users.
#[derive(Default, Debug)]
pub(super) struct Users {
    pub(super) default_user: Option<String>,
    pub(super) default_pass: Option<String>,
    pub(super) default_vhost: Option<String>,
    default_permissions: Granted,
    /// `default_user_tags.NAME`, once anything was said about them.
    default_tags: Option<Vec<String>>,
    /// `default_users.NAME.*`
    named: BTreeMap<String, Named>,
    /// `loopback_users`, once anything was said about them.
    loopback: Option<Vec<String>>,
}

/// `default_users.NAME.*`
#[derive(Default, Debug)]
struct Named {
    password: Option<String>,
    vhost_pattern: Option<Pattern>,
    tags: Vec<String>,
    granted: Granted,
}

/// `KEY.configure`, `KEY.write`, `KEY.read`
#[derive(Default, Debug)]
struct Granted {
    configure: Option<Pattern>,
    write: Option<Pattern>,
    read: Option<Pattern>,
}

impl Granted {
    fn set(&mut self, permission: &str, value: &str) -> Result<(), Refused> {
        let pattern = pattern(value)?;
        let field = match permission {
            "configure" => &mut self.configure,
            "write" => &mut self.write,
            "read" => &mut self.read,
            _ => return Err(Refused::Key),
        };
        *field = Some(pattern);
        Ok(())
    }

    /// All that wasn't restricted.
    fn permissions(&self) -> Permissions {
        let all = Permissions::default();
        Permissions {
            configure: self.configure.clone().unwrap_or(all.configure),
            write: self.write.clone().unwrap_or(all.write),
            read: self.read.clone().unwrap_or(all.read),
        }
    }
}

impl Users {
    /// Takes a key over, in its parts, if it is one of a user's.
    pub(super) fn set(&mut self, key: &[&str], value: &str) -> Result<(), Refused> {
        match *key {
            ["default_user"] => self.default_user = Some(short(value)?),
            ["default_pass"] => self.default_pass = Some(password(value)?),
            ["default_vhost"] => self.default_vhost = Some(short(value)?),
            ["default_permissions", permission] => {
                self.default_permissions.set(permission, value)?;
            }
            ["default_user_tags", tag] => {
                let is_set = value::boolean(value)?;
                let tags = self.default_tags.get_or_insert_default();
                tags.retain(|known| known != tag);
                if is_set {
                    tags.push(tag.to_owned());
                }
            }
            ["default_users", name, "password"] => {
                self.named(name)?.password = Some(password(value)?);
            }
            ["default_users", name, "vhost_pattern"] => {
                self.named(name)?.vhost_pattern = Some(pattern(value)?);
            }
            ["default_users", name, "tags"] => {
                let tags = value.trim_matches(['[', ']']).split(',');
                let tags = tags.map(|tag| tag.trim().to_owned());
                self.named(name)?.tags = tags.filter(|tag| !tag.is_empty()).collect();
            }
            [
                "default_users",
                name,
                permission @ ("configure" | "write" | "read"),
            ] => {
                self.named(name)?.granted.set(permission, value)?;
            }
            ["loopback_users"] if value == "none" => self.loopback = Some(vec![]),
            ["loopback_users"] => return Err("expected none".into()),
            ["loopback_users", name] => {
                let is_restricted = value::boolean(value)?;
                let users = self.loopback.get_or_insert_with(|| vec![GUEST.to_owned()]);
                users.retain(|user| user != name);
                if is_restricted {
                    users.push(name.to_owned());
                }
            }
            _ => return Err(Refused::Key),
        }
        Ok(())
    }

    fn named(&mut self, name: &str) -> Result<&mut Named, Refused> {
        Ok(self.named.entry(short(name)?).or_default())
    }

    /// The default user's.
    pub(super) fn default_vhost(&self) -> &str {
        self.default_vhost.as_deref().unwrap_or(ROOT)
    }

    /// Names of those who may connect from this machine only.
    pub(super) fn loopback_users(&self) -> Vec<String> {
        self.loopback
            .clone()
            .unwrap_or_else(|| vec![GUEST.to_owned()])
    }

    /// All of them.
    pub(super) fn users(&self) -> Result<Vec<User>, ConfigError> {
        let default_user = self.default_user.as_deref().unwrap_or(GUEST);
        let mut users = vec![];
        if !self.named.contains_key(default_user) {
            users.push(self.default_user(default_user));
        }
        for (name, stated) in &self.named {
            let Some(password) = &stated.password else {
                return Err(ConfigError(format!(
                    "default_users.{name} has no password: give it one, or leave it out"
                )));
            };
            let default_vhost = || Pattern::exactly(self.default_vhost());
            users.push(User {
                name: Name::from(name.as_str()),
                password: Secret::new(password),
                tags: stated.tags.clone(),
                vhosts: stated.vhost_pattern.clone().unwrap_or_else(default_vhost),
                permissions: stated.granted.permissions(),
                is_fallback: false,
            });
        }
        Ok(users)
    }

    fn default_user(&self, name: &str) -> User {
        let administrator = || vec!["administrator".to_owned()];
        User {
            name: Name::from(name),
            password: Secret::new(self.default_pass.as_deref().unwrap_or(GUEST)),
            tags: self.default_tags.clone().unwrap_or_else(administrator),
            vhosts: Pattern::exactly(self.default_vhost()),
            permissions: self.default_permissions.permissions(),
            is_fallback: self.default_user.is_none() && self.default_pass.is_none(),
        }
    }
}

pub(super) fn pattern(value: &str) -> Result<Pattern, Refused> {
    Pattern::parse(value)
        .map_err(|reason| Refused::Value(format!("expected a regular expression ({reason})")))
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;
    use crate::base::Settings;
    use crate::config::file::{File, parse};

    fn settings(text: &str) -> (Settings, Vec<String>) {
        parse("f", text)
            .and_then(File::settings)
            .expect("the file is correct")
    }

    fn mistake(text: &str) -> String {
        parse("f", text)
            .and_then(File::settings)
            .expect_err("the file is wrong")
            .to_string()
    }

    fn users(text: &str) -> Vec<User> {
        let (settings, warnings) = settings(text);
        assert!(warnings.is_empty(), "{warnings:?}");
        settings.users
    }

    fn names(names: &[Name]) -> Vec<&str> {
        names.iter().map(Name::as_str).collect()
    }

    /// The vhosts that a user may open.
    fn opened<'a>(user: &User, settings: &'a Settings) -> Vec<&'a str> {
        let vhosts = names(&settings.vhosts).into_iter();
        vhosts
            .filter(|vhost| user.vhosts.matches(vhost.as_bytes()))
            .collect()
    }

    #[test]
    fn guest_exists_only_while_it_is_the_default_user() {
        let (settings, _) =
            settings("default_user = admin\ndefault_pass = secret\ndefault_vhost = orders\n");
        assert_eq!(settings.users.len(), 1);
        let admin = &settings.users[0];
        assert_eq!(admin.name.as_str(), "admin");
        assert!(!settings.loopback_users.iter().any(|user| user == "admin"));
        assert_eq!(opened(admin, &settings), ["orders"]);
        assert!(!admin.is_fallback);
        assert_eq!(names(&settings.vhosts), ["/", "orders"]);
    }

    #[test]
    fn the_default_user_gives_way_to_stored_ones_unless_somebody_asked_for_it() {
        assert!(Settings::default().users[0].is_fallback && users("")[0].is_fallback);
        assert!(!users("default_user = guest\n")[0].is_fallback);
        assert!(!users("default_pass = guest\n")[0].is_fallback);
    }

    #[test]
    fn users_open_the_vhosts_that_match_their_pattern() {
        let (settings, _) = settings(
            "vhosts.1 = orders\nvhosts.2 = orders-eu\nvhosts.3 = /\n\
             default_users.alice.password = a\ndefault_users.alice.vhost_pattern = ^orders\n\
             default_users.bob.password = b\n",
        );
        assert_eq!(names(&settings.vhosts), ["/", "orders", "orders-eu"]);
        let [guest, alice, bob] = &settings.users[..] else {
            panic!("three users")
        };
        assert_eq!(opened(guest, &settings), ["/"]);
        assert_eq!(opened(alice, &settings), ["orders", "orders-eu"]);
        assert_eq!(opened(bob, &settings), ["/"]);
    }

    #[test]
    fn permissions_are_all_unless_they_are_restricted() {
        let text = "default_permissions.read = ^a\ndefault_users.bob.password = b\n\
                    default_users.bob.configure = ^$\n";
        let users = users(text);
        let shown: Vec<_> = users
            .iter()
            .map(|user| format!("{} {:?}", user.name, user.permissions))
            .collect();
        assert_eq!(
            shown,
            [
                "guest Permissions { configure: \".*\", write: \".*\", read: \"^a\" }",
                "bob Permissions { configure: \"^$\", write: \".*\", read: \".*\" }",
            ]
        );
        assert_eq!(
            mistake("default_users.a.write = ^(?!amq)"),
            "f line 1: default_users.a.write: expected a regular expression (look-around, including look-ahead and \
             look-behind, is not supported), not '^(?!amq)'"
        );
    }

    #[test]
    fn users_have_tags() {
        let text = "default_user_tags.impersonator = true\ndefault_users.bob.password = b\n\
                    default_users.bob.tags = monitoring, policymaker\n";
        let users = users(text);
        assert_eq!(users[0].tags, ["impersonator"]);
        assert_eq!(users[1].tags, ["monitoring", "policymaker"]);
        assert_eq!(Settings::default().users[0].tags, ["administrator"]);
    }

    #[test]
    fn loopback_users_can_be_none_or_named() {
        let restricted = |text: &str| {
            let (settings, _) = settings(text);
            let is_restricted = |user: &User| {
                settings
                    .loopback_users
                    .iter()
                    .any(|name| name == user.name.as_str())
            };
            settings.users.iter().map(is_restricted).collect::<Vec<_>>()
        };
        let alice = "default_users.alice.password = a\n";
        assert_eq!(restricted(alice), [true, false]);
        assert_eq!(
            restricted(&format!("{alice}loopback_users = none\n")),
            [false, false]
        );
        assert_eq!(
            restricted(&format!("{alice}loopback_users.guest = false\n")),
            [false, false]
        );
        assert_eq!(
            restricted(&format!("{alice}loopback_users.alice = true\n")),
            [true, true]
        );
    }

    #[test]
    fn a_user_without_a_password_is_refused() {
        let expected = "default_users.a has no password: give it one, or leave it out";
        assert_eq!(mistake("default_users.a.vhost_pattern = .*"), expected);
    }
}
