// Package cli is the command line of Weir's binaries: it loads settings from flags,
// environment, a YAML file and defaults into a Config, and dispatches subcommands.
//
// A command has one table of settings, a slice of [Setting] that points at the fields
// of its Config. Parsing, precedence, validation, --help, --print-config and the
// reference in docs/flags.md all use this table, so that they agree.
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
// what compose files and charts produce for a value left out. An empty flag is given, and
// refused for a list or where there is a default.
//
// Nothing is clamped and nothing is ignored: a value out of range, an unknown flag, an
// unknown key and a misspelt variable are problems. All problems are reported at once,
// each with the setting as it was spelt, its value, its source and what is allowed. A
// typo in the setting for retention must not be noticed a year later.
package cli
