//! Where and when a test takes place: the time of day, the time zone and the fonts, which the page must not depend on.
//!
//! Nothing of it comes from the machine. The service runs under libfaketime, the browser's time zone and fonts come from
//! its environment (a fontconfig file of our own), and its clock is moved to the service's.

use keyward_testbed::faketime;
use std::path::Path;

/// A time zone, a moment and a set of fonts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The browser's time zone.
    pub(crate) zone: &'static str,
    /// When the test begins, as libfaketime reads it, in UTC. `None` means now.
    pub(crate) begins: Option<&'static str>,
    pub(crate) fonts: Fonts,
}

/// A font for text and one of fixed width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fonts {
    pub(crate) text: &'static str,
    pub(crate) fixed: &'static str,
    /// Where they are, below [`FONTS`].
    folders: &'static [&'static str],
    /// The Debian package of the font for text.
    package: &'static str,
}

/// What a bare Debian has, which is wide.
const DEJAVU: Fonts =
    Fonts { text: "DejaVu Sans", fixed: "DejaVu Sans Mono", folders: &["dejavu"], package: "fonts-dejavu-core" };
/// What Android and Chrome OS have, which is narrow. It has no font of fixed width.
const ROBOTO: Fonts = Fonts {
    text: "Roboto",
    fixed: "Liberation Mono",
    folders: &["roboto/unhinted/RobotoTTF", "liberation"],
    package: "fonts-roboto-unhinted",
};
/// As wide as Arial.
const LIBERATION: Fonts =
    Fonts { text: "Liberation Sans", fixed: "Liberation Mono", folders: &["liberation"], package: "fonts-liberation" };

/// The local day is the day in UTC, and the fonts are those of a bare machine.
pub(crate) const NOON_IN_BERLIN: Place =
    Place { zone: "Europe/Berlin", begins: Some("2026-11-24 11:15:00"), fonts: DEJAVU };
/// The local day is the first of the next year, and the fonts are others.
pub(crate) const NEW_YEAR_IN_TOKYO: Place =
    Place { zone: "Asia/Tokyo", begins: Some("2026-12-31 23:30:00"), fonts: ROBOTO };
/// The local day is the last of February, in UTC it is the day after.
pub(crate) const EVENING_IN_LOS_ANGELES: Place =
    Place { zone: "America/Los_Angeles", begins: Some("2027-03-01 04:45:00"), fonts: LIBERATION };
/// For the pictures of the documentation.
pub(crate) const PICTURES: Place = Place { zone: "Europe/Berlin", begins: Some("2026-11-24 11:15:00"), fonts: ROBOTO };
/// For tests with an Envoy, whose clock nobody moves.
pub(crate) const NOW: Place = Place { zone: "Europe/Berlin", begins: None, fonts: DEJAVU };

/// Makes a test of a function for each place.
macro_rules! everywhere {
    ($name:ident) => {
        mod $name {
            #[test]
            fn at_noon_in_berlin() {
                super::$name(crate::place::NOON_IN_BERLIN);
            }

            #[test]
            fn at_new_year_in_tokyo() {
                super::$name(crate::place::NEW_YEAR_IN_TOKYO);
            }
        }
    };
}
pub(crate) use everywhere;

const FONTS: &str = "/usr/share/fonts/truetype";

impl Place {
    /// The environment of a service that runs here.
    pub(crate) fn of_service(&self) -> Vec<(&'static str, String)> {
        self.begins.map(faketime::environment).unwrap_or_default()
    }

    /// The environment of a browser that runs here. It keeps a file in `folder`.
    pub(crate) fn of_browser(&self, folder: &Path) -> Vec<(&'static str, String)> {
        let file = folder.join("fonts.conf");
        let alias = |generic: &str, family: &str| {
            format!(
                "<match><test name=\"family\"><string>{generic}</string></test>\
                 <edit name=\"family\" mode=\"assign\" binding=\"strong\"><string>{family}</string></edit></match>\n"
            )
        };
        let Fonts { text, fixed, folders, .. } = self.fonts;
        let folders: String = folders.iter().map(|name| format!("<dir>{FONTS}/{name}</dir>\n")).collect();
        let aliases: String =
            ["system-ui", "sans", "sans-serif", "serif"].iter().map(|generic| alias(generic, text)).collect();
        let config = format!(
            "<?xml version=\"1.0\"?>\n<fontconfig>\n{folders}<cachedir>{}</cachedir>\n{aliases}{}\
             <match><edit name=\"family\" mode=\"append_last\"><string>{text}</string></edit></match>\n</fontconfig>\n",
            folder.join("font-cache").display(),
            alias("monospace", fixed),
        );
        std::fs::write(&file, config).expect("a file for fontconfig");
        vec![("TZ", self.zone.to_owned()), ("FONTCONFIG_FILE", file.display().to_string())]
    }

    /// What moves a page's clock: `Date` says the time of the service.
    pub(crate) fn script(&self) -> Option<String> {
        let begins = self.begins?.replace(' ', "T");
        Some(format!(
            "(() => {{ const Real = Date, shift = Real.parse('{begins}Z') - Real.now();
               globalThis.Date = class extends Real {{
                 constructor(...args) {{ args.length ? super(...args) : super(Real.now() + shift); }}
                 static now() {{ return Real.now() + shift; }}
               }}; }})()"
        ))
    }
}

/// The Debian packages that a test in any place needs and that are not here.
pub(crate) fn missing() -> Vec<&'static str> {
    let fonts = [DEJAVU, ROBOTO, LIBERATION];
    let absent = |fonts: &Fonts| !fonts.folders.iter().all(|folder| Path::new(FONTS).join(folder).is_dir());
    let mut missing: Vec<&str> = fonts.iter().filter(|fonts| absent(fonts)).map(|fonts| fonts.package).collect();
    if faketime::library().is_none() {
        missing.push("faketime");
    }
    missing
}
