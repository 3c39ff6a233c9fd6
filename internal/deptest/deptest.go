// Package deptest holds the rules about which package may import which, and the
// test that enforces them over all modules of the workspace. A rule carries its
// reason, and the failure shows it: someone who breaks a rule should learn what
// it is for, and may then change the rule instead.
//
// Modules and depguard hold a part of the same rules; this test is the one that
// knows the whole picture. Rules speak of what is imported outside tests: a
// test may start the services that its package must not know.
package deptest

import (
	"fmt"
	"slices"
	"strings"
)

// Package is what a rule looks at.
type Package struct {
	// Path is the import path.
	Path string
	// Imports are the paths that it imports itself; Deps also what these
	// import, and so on.
	Imports, Deps []string
}

// Rule says what packages may not import, or all that they may.
type Rule struct {
	// Of are patterns for the packages that the rule is about, Except for
	// those of them that it spares. A pattern is an import path; with /... at
	// its end, that path and everything below. Weir's own paths are written
	// from the repository's root: internal/bucket. Two words stand for more:
	// std for the standard library, and support for those of our packages that
	// are for tests only.
	Of, Except []string
	// Never are patterns for what these packages do not import.
	Never []string
	// Only are patterns for what they do import, and nothing else. A rule has
	// Never or Only.
	Only []string
	// Deep applies the rule to imports of imports too.
	Deep bool
	// Because is the reason.
	Because string
}

// root is the import path that patterns of our own packages are relative to.
const root = "github.com/weir-metrics/weir"

// Check returns one message for each import that breaks the rule.
func (r Rule) Check(p Package) []string {
	if !matchAny(r.Of, p.Path) || matchAny(r.Except, p.Path) {
		return nil
	}
	imports := p.Imports
	if r.Deep {
		imports = p.Deps
	}
	var broken []string
	for _, path := range imports {
		allowed := !matchAny(r.Never, path)
		if len(r.Only) > 0 {
			allowed = matchAny(r.Only, path)
		}
		if !allowed {
			broken = append(broken, fmt.Sprintf("%s imports %s: %s", short(p.Path), short(path), r.Because))
		}
	}
	return broken
}

func matchAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, path) })
}

const support = "support"

func match(pattern, path string) bool {
	switch pattern {
	case "std":
		return standard(path)
	case support:
		// The house's rule of names: pgtest, storetest, feedtest, testkit.
		rest, ours := strings.CutPrefix(path, root+"/")
		return ours && slices.ContainsFunc(strings.Split(rest, "/"), func(name string) bool {
			return strings.HasSuffix(name, "test") || name == "testkit"
		})
	}
	// A first element with a dot is a host, so the path is not ours.
	if first, _, _ := strings.Cut(pattern, "/"); !strings.Contains(first, ".") && !standard(pattern) {
		pattern = root + "/" + pattern
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == tree || strings.HasPrefix(path, tree+"/")
	}
	return path == pattern
}

// own are the top folders of the repository that hold packages.
var own = []string{"internal", "proto", "client", "services", "migrations", "bench"}

// standard tells the standard library's paths: no host in them, and not one of
// ours as rules write them.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && !slices.Contains(own, first)
}

func short(path string) string {
	if path == root {
		return "."
	}
	return strings.TrimPrefix(path, root+"/")
}
