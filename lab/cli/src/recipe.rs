//! `--patch` and `--build-option`: what is done to a source before and while it is built.

use crate::failure::Failure;
use clap::{Args, ValueHint};
use std::path::PathBuf;
use xenlab_model::recipe::{BuildOptions, Recipe};

/// The same for every command that takes a Xen build.
#[derive(Debug, Args, Default, Clone)]
pub struct RecipeArgs {
    /// A patch for a build from source, applied as patch -p1 does; repeated, in this order
    #[arg(long = "patch", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub patches: Vec<PathBuf>,
    /// An option of a build from source: debug, flask, efi or tools=true or false, extra-version=TEXT, changeset=TEXT, CONFIG_NAME=VALUE,
    /// or kconfig=FILE with such lines; repeated
    #[arg(long = "build-option", value_name = "KEY=VALUE")]
    pub options: Vec<String>,
}

/// A word of the command line: its flag, the PATH it sets, the value, and the value as it was written.
pub type Word = (&'static str, String, String, String);

impl RecipeArgs {
    /// Key and value; `kconfig` for what goes into its list.
    fn pairs(&self) -> Result<Vec<(&str, &str)>, Failure> {
        self.options
            .iter()
            .map(|text| match text.split_once('=') {
                Some((key, _)) if key.starts_with("CONFIG_") => Ok(("kconfig", text.as_str())),
                Some(pair) => Ok(pair),
                None => Err(Failure::bad_input(format!(
                    "--build-option {text}: expected KEY=VALUE, as debug=true or CONFIG_SHADOW_PAGING=n"
                ))),
            })
            .collect()
    }

    /// What it sets, as `--set` would. Patches and Kconfig entries are lists; any other key twice makes an axis.
    pub fn words(&self) -> Result<Vec<Word>, Failure> {
        let mut words = Vec::new();
        let patches: Vec<String> = self.patches.iter().map(|p| p.display().to_string()).collect();
        if let Some(first) = patches.first() {
            words.push(("--patch", "xen.patches".to_owned(), list(&patches), first.clone()));
        }
        let pairs = self.pairs()?;
        let kconfig: Vec<String> =
            pairs.iter().filter(|(k, _)| *k == "kconfig").map(|(_, v)| (*v).to_owned()).collect();
        let mut listed = false;
        for ((key, value), text) in pairs.into_iter().zip(&self.options) {
            let value = match (key, listed) {
                ("kconfig", true) => continue,
                ("kconfig", false) => {
                    listed = true;
                    list(&kconfig)
                }
                _ => value.to_owned(),
            };
            words.push(("--build-option", format!("xen.options.{key}"), value, text.clone()));
        }
        Ok(words)
    }

    /// The same for what has no scenario.
    pub fn recipe(&self) -> Result<Recipe, Failure> {
        let mut options = BuildOptions::default();
        for (key, value) in self.pairs()? {
            let wrong =
                |expected| Failure::bad_input(format!("--build-option {key}={value}: expected {expected}"));
            let flag = || value.parse().map(Some).map_err(|_| wrong("true or false"));
            match key {
                "debug" => options.debug = flag()?,
                "flask" => options.flask = flag()?,
                "efi" => options.efi = flag()?,
                "tools" => options.tools = flag()?,
                "extra-version" => options.extra_version = Some(value.to_owned()),
                "changeset" => options.changeset = Some(value.to_owned()),
                "kconfig" => options.kconfig.push(value.to_owned()),
                _ => {
                    return Err(wrong(
                        "debug, flask, efi, tools, extra-version, changeset, kconfig or CONFIG_NAME as its key",
                    ));
                }
            }
        }
        if let Some((key, message, expected)) = options.mistakes().into_iter().next() {
            return Err(Failure::bad_input(format!("--build-option {key}: {message}; expected {expected}")));
        }
        Ok(Recipe { patches: self.patches.clone(), options })
    }

    /// The words that a reproducing command repeats.
    pub fn repeat(&self) -> Vec<String> {
        let patches = self.patches.iter().flat_map(|p| ["--patch".to_owned(), p.display().to_string()]);
        patches.chain(self.options.iter().flat_map(|o| ["--build-option".to_owned(), o.clone()])).collect()
    }
}

/// A list as YAML has it in one line.
fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|i| format!("'{}'", i.replace('\'', "''"))).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_recipe_say_the_same() {
        let args = RecipeArgs {
            patches: vec!["a b.patch".into(), "it's.patch".into()],
            options: ["debug=true", "CONFIG_HVM=n", "extra-version=.1", "kconfig=frag"]
                .map(str::to_owned)
                .into(),
        };
        let words: Vec<(String, String)> =
            args.words().expect("words").into_iter().map(|(_, path, value, _)| (path, value)).collect();
        let expected = [
            ("xen.patches", "['a b.patch', 'it''s.patch']"),
            ("xen.options.debug", "true"),
            ("xen.options.kconfig", "['CONFIG_HVM=n', 'frag']"),
            ("xen.options.extra-version", ".1"),
        ];
        assert_eq!(words, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let recipe = args.recipe().expect("a recipe");
        assert_eq!(recipe.options.kconfig, ["CONFIG_HVM=n", "frag"]);
        assert_eq!((recipe.options.debug, recipe.patches.len()), (Some(true), 2));
        for bad in ["debug", "debug=yes", "colour=red", "extra-version=a b"] {
            let args = RecipeArgs { patches: vec![], options: vec![bad.into()] };
            assert!(args.recipe().is_err(), "{bad}");
        }
    }
}
