// Package cli is the command line of Weir's binaries: settings from flags,
// environment, a YAML file and defaults onto a Config, and the dispatch of
// subcommands.
//
// A command has one table of settings, a slice of [Setting] that points at the
// fields of its Config. From the table come parsing, precedence, checks, --help,
// --print-config and the reference in docs/flags.md, so that none of them can
// say something else than the others.
//
//	func (c *Config) Settings() []cli.Setting {
//		return []cli.Setting{
//			{Env: "CF_DELAY_SECONDS", Default: "300", Value: cli.Duration(&c.Delay, time.Minute, 6*time.Hour),
//				Help: "age at which a window is first trusted"},
//			{Env: "CF_API_TOKEN", Value: cli.SecretText(&c.Token), Help: "Cloudflare API token"},
//		}
//	}
//
// A value is taken from the first of: flag, environment variable, file, default.
// An environment variable that is set but empty counts as not set, since that is
// what compose files and charts produce for a value left out.
//
// Nothing is clamped and nothing is ignored: a value out of range, an unknown
// flag, an unknown key and a misspelt variable are problems, and all problems
// are reported at once, each with the setting as it was spelt, its value, where
// it came from and what is allowed. A typo in a setting that keeps data must not
// be found a year later.
package cli
