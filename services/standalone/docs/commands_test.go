package docs

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
	"github.com/weir-metrics/weir/services/standalone"
)

// Every block of a page that is for a shell (sh, or console if it shows output too)
// says behind its language how it is verified:
//
//	sh run            TestCommandsOfThePages runs it, and it succeeds
//	sh look           the same, with what takes a moment: again until it ends with 0 or 1
//	                  (grep found nothing, the doctor found something) and prints what the
//	                  page expects
//	sh serve          the same, and it goes on while the rest of the page is run
//	sh test=TestName  that test runs it, or its subcommands
//	sh needs=account  it needs what no test has; needs has the list
//
// Blocks of a page share a folder and what they export.
type command struct {
	page, text string
	// shown is what a block of kind console prints, with … for anything.
	shown string
	// expected is the code with which the page's next paragraph says what is printed, if
	// it begins so.
	expected  string
	how, what string
}

// needs are what a command can need that no test has.
var needs = map[string]string{
	"account":  "an account at Cloudflare and its token",
	"cluster":  "a Kubernetes cluster",
	"docker":   "docker, and images from a registry",
	"root":     "a machine that it changes",
	"machines": "several machines",
	"checkout": "a checkout and minutes to compile",
	"grpcurl":  "grpcurl",
}

func (c command) String() string {
	first, _, _ := strings.Cut(c.text, "\n")
	return c.page + ": " + first
}

var (
	marked     = regexp.MustCompile(`^ (?:(run|look|serve)|(test|needs)=(\w+))$`)
	expectCode = regexp.MustCompile("^\\s*Expected[^`\n.]*: `([^`\n]+)`")
)

// commands are the blocks of a page that are for a shell; bad says which are not as they
// have to be.
func commands(p page) (out []command, bad []string) {
	for _, at := range fence.FindAllStringSubmatchIndex(p.text, -1) {
		language, info, text := p.text[at[2]:at[3]], p.text[at[4]:at[5]], p.text[at[6]:at[7]]
		c := command{page: p.path, text: dedent(text)}
		switch language {
		case "console":
			c.text, c.shown = session(c.text)
		case "sh":
		case "bash", "shell", "zsh", "shellsession":
			bad = append(bad, fmt.Sprintf("%s: a block is %q; call it sh, or console with its output", p.path, language))
			continue
		default:
			if strings.HasPrefix(c.text, "$ ") || programs.MatchString(c.text) && language == "" {
				bad = append(bad, fmt.Sprintf("%s has commands in a block that is neither sh nor console:\n%s", p.path, text))
			}
			continue
		}
		m := marked.FindStringSubmatch(info)
		if m == nil {
			bad = append(bad, fmt.Sprintf("%s: %q does not say how it is verified, as commands_test.go has it:\n%s", p.path, "```"+language+info, text))
			continue
		}
		c.how, c.what = m[1]+m[2], m[3]
		if e := expectCode.FindStringSubmatch(p.text[at[1]:]); e != nil {
			c.expected = e[1]
		}
		out = append(out, c)
	}
	for line := range strings.Lines(fence.ReplaceAllString(p.text, "")) {
		if rest, indented := strings.CutPrefix(line, "    "); indented && programs.MatchString(strings.TrimLeft(rest, " ")) {
			bad = append(bad, fmt.Sprintf("%s has a command outside of a block: %s", p.path, line))
		}
	}
	return out, bad
}

// programs is how a line begins that a reader types.
var programs = regexp.MustCompile(`^(?:\$ |[A-Z_]+=\S+ )*(?:weir|collector|exposer|make|go|curl|kubectl|helm|docker|psql|promtool|systemctl|mv|cd) [a-z-]`)

// dedent takes away what a list indents.
func dedent(text string) string {
	indent := len(text) - len(strings.TrimLeft(text, " "))
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(line[min(indent, len(line)-len(strings.TrimLeft(line, " "))):])
	}
	return b.String()
}

// session divides what is typed from what is printed.
func session(text string) (typed, printed string) {
	continued := false
	for line := range strings.Lines(text) {
		rest, prompt := strings.CutPrefix(line, "$ ")
		switch {
		case prompt, continued:
			typed += rest
			continued = strings.HasSuffix(line, "\\\n")
		default:
			printed += line
		}
	}
	return typed, printed
}

// Every command of the documents says how it is verified, names a test that exists and runs
// such a command, and uses commands, flags and make targets that exist.
func TestEveryCommandIsVerified(t *testing.T) {
	tr := read(t)
	tests := map[string][]string{} // folders by test
	for dir, files := range tr.sources {
		for _, f := range files {
			for _, m := range function.FindAllStringSubmatch(f.text, -1) {
				tests[m[1]] = append(tests[m[1]], dir)
			}
		}
	}
	targets := string(content(t, filepath.Join(tr.root, "Makefile")))
	by := map[string]int{}
	for _, p := range tr.pages {
		all, bad := commands(p)
		for _, problem := range bad {
			t.Error(problem)
		}
		for _, c := range all {
			by[c.how]++
			switch c.how {
			case "needs":
				if needs[c.what] == "" {
					t.Errorf("%s: needs=%s is none of %q", c, c.what, slices.Sorted(maps.Keys(needs)))
				}
			case "test":
				dirs := tests[c.what]
				if len(dirs) == 0 {
					t.Errorf("%s: there is no test %s", c, c.what)
				} else if !slices.ContainsFunc(dirs, func(dir string) bool { return tr.runs(dir, c) }) {
					t.Errorf("%s: the package of %s neither reads %s nor runs these commands", c, c.what, c.page)
				}
			}
			if out, err := exec.CommandContext(t.Context(), "bash", "-n", "-c", c.text).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", c, err, out)
			}
			for _, called := range calls(c.text) {
				if problem := called.unknown(targets); problem != "" {
					t.Errorf("%s: %s", c, problem)
				}
			}
		}
		for _, m := range regexp.MustCompile("(?m)`make ([a-z0-9-]+)").FindAllStringSubmatch(p.text, -1) {
			if !strings.Contains(targets, "\n"+m[1]+":") {
				t.Errorf("%s names make %s, which the Makefile does not have", p.path, m[1])
			}
		}
	}
	if by["run"] < 5 || by["look"] < 50 || by["serve"] < 3 || by["test"] < 20 {
		t.Errorf("blocks by how they are verified: %v; either the documents have become thin or this test no longer understands them", by)
	}
}

// runs says whether a package's tests run a block's commands: they read its page, or they call
// the same commands of our programs.
func (tr *tree) runs(dir string, c command) bool {
	has := func(part string) bool {
		return slices.ContainsFunc(tr.sources[dir], func(f page) bool { return strings.HasSuffix(f.path, "_test.go") && strings.Contains(f.text, part) })
	}
	if has(c.page) {
		return true
	}
	all := calls(c.text)
	return len(all) > 0 && !slices.ContainsFunc(all, func(called call) bool {
		return slices.ContainsFunc(strings.Fields(called.command), func(word string) bool { return !has(`"` + word + `"`) })
	})
}

// call is a program of ours, or make, as a block calls it.
type call struct {
	program, command string // weir, backfill fetch
	words            []string
}

// calls are those of a block.
func calls(text string) (out []call) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune("\n|;&()", r) }) {
		words := strings.Fields(part)
		for len(words) > 0 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) < 2 {
			continue
		}
		c := call{program: strings.TrimPrefix(words[0], "bin/"), words: words[1:]}
		if commands := tables[c.program]; commands != nil {
			for name := range commands { // the longest
				if len(name) > len(c.command) && strings.HasPrefix(strings.Join(c.words, " ")+" ", name+" ") {
					c.command = name
				}
			}
			out = append(out, c)
		} else if c.program == "make" {
			out = append(out, c)
		}
	}
	return out
}

// tables are the flags of each command of each program.
var tables = func() map[string]map[string][]string {
	out := map[string]map[string][]string{}
	for program, all := range map[string][]cli.Command{"collector": collector.Commands(), "exposer": exposer.Commands(), "weir": standalone.Commands()} {
		out[program] = map[string][]string{"version": nil}
		for _, c := range nested("", all) {
			flags := []string{"--config", "--print-config", "--help"}
			for _, s := range c.Settings {
				name := s.Flag
				if name == "" {
					name = strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s.Env, "WEIR_")), "_", "-")
				}
				flags = append(flags, "--"+name, "--"+name+"-file") // the latter of secrets alone; good enough here
			}
			out[program][c.Name] = flags
		}
	}
	return out
}()

// nested are all commands, those of commands too, with the names of their groups before their own.
func nested(group string, commands []cli.Command) (all []cli.Command) {
	for _, c := range commands {
		below := nested(group+c.Name+" ", c.Commands)
		c.Name = group + c.Name
		all = append(append(all, c), below...)
	}
	return all
}

// unknown says what of a call does not exist; empty: nothing.
func (c call) unknown(makefile string) string {
	if c.program == "make" {
		if !strings.Contains(makefile, "\n"+c.words[0]+":") {
			return "the Makefile has no " + c.words[0]
		}
		return ""
	}
	if c.command == "" {
		return fmt.Sprintf("%s has no command %s", c.program, c.words[0])
	}
	for _, word := range c.words {
		if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") && !slices.Contains(tables[c.program][c.command], flag) {
			return fmt.Sprintf("%s %s has no flag %s", c.program, c.command, flag)
		}
	}
	return ""
}
