package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// Exit codes of [Program.Main].
const (
	ExitOK    = 0
	ExitError = 1 // the command ran and failed
	ExitUsage = 2 // the command line or the settings are wrong; nothing ran
)

// Command is something that a binary does: one with Run, a group of others with
// Commands, or both: then Run is what the group's name alone does.
type Command struct {
	Name string
	// Summary is one line for the list of commands, without a full stop.
	Summary string
	// Help is more, shown by --help; paragraphs are kept.
	Help string
	// Args describes the arguments that are no flags, such as "FILE"; empty
	// refuses them.
	Args string
	// Settings is the table; the fields behind it are filled before Run.
	Settings []Setting
	// Validate checks rules that involve several settings and returns every problem,
	// as [Problem] if it concerns one setting. May be nil.
	Validate func() error
	// Run runs the command. A [CodeError] chooses the exit code;
	// others mean [ExitError]. Its context ends at SIGINT or SIGTERM, and without Hangup
	// at SIGHUP; it then returns nil.
	Run func(ctx context.Context, args []string) error
	// Hangup is called at each SIGHUP, which then does not end the process: operators
	// of services send it to reload files. It is called from a separate goroutine, one
	// call at a time. May be nil.
	Hangup func()
	// Commands are the group's.
	Commands []Command
}

// Program is a binary.
type Program struct {
	Name     string
	Summary  string
	Commands []Command
	// Default names the command that runs when the command line begins with
	// a flag or is empty. Empty: then it is a usage error.
	Default string

	// Stdout, Stderr and Environ replace those of the process in tests.
	Stdout, Stderr io.Writer
	Environ        []string
}

// Main runs the command that args name (without the program's own name) and
// returns the exit code for [os.Exit]. The first SIGINT or SIGTERM ends the
// command's context, as does SIGHUP where the command has no Hangup; a second one
// ends the process at once.
func (p Program) Main(ctx context.Context, args []string) int {
	if p.Stdout == nil {
		p.Stdout = os.Stdout
	}
	if p.Stderr == nil {
		p.Stderr = os.Stderr
	}
	if p.Environ == nil {
		p.Environ = os.Environ()
	}
	out := &errWriter{w: p.Stdout}
	p.Stdout = out
	code := p.command(ctx, args)
	if out.err != nil && code == ExitOK {
		return p.exit(p.Name, fmt.Errorf("write to stdout: %w", out.err))
	}
	return code
}

func (p Program) command(ctx context.Context, args []string) int {
	if len(args) > 0 {
		switch args[0] {
		case "version", "--version", "-version":
			fmt.Fprintf(p.Stdout, "%s %s\n", p.Name, BuildInfo())
			return ExitOK
		case "help", "--help", "-help", "-h":
			p.usage(p.Stdout, p.Name, p.Summary, p.Commands)
			return ExitOK
		}
	}
	path, command, rest, err := p.find(args)
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: %v\nRun %q for help.\n", p.Name, err, p.Name+" help")
		return ExitUsage
	}
	if command.Run == nil { // a group, with or without --help
		if len(rest) > 0 {
			p.usage(p.Stdout, path, command.Summary, command.Commands)
			return ExitOK
		}
		p.usage(p.Stderr, path, command.Summary, command.Commands)
		return ExitUsage
	}
	return p.run(ctx, path, command, rest)
}

// find follows the words of args down the tree of commands.
func (p Program) find(args []string) (path string, command Command, rest []string, err error) {
	command = Command{Name: p.Name, Summary: p.Summary, Commands: p.Commands}
	path, rest = p.Name, args
	for len(command.Commands) > 0 {
		word, after := "", rest
		if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			word, after = rest[0], rest[1:]
		} else if path == p.Name && p.Default != "" {
			word = p.Default
		}
		i := slices.IndexFunc(command.Commands, func(c Command) bool { return c.Name == word })
		if word == "" || i < 0 && command.Run != nil {
			return path, command, rest, nil
		}
		if i < 0 {
			var names []string
			for _, c := range command.Commands {
				names = append(names, c.Name)
			}
			return "", Command{}, nil, fmt.Errorf("unknown command %q%s", word, suggest(word, names))
		}
		rest = after
		command = command.Commands[i]
		path += " " + word
	}
	return path, command, rest, nil
}

func (p Program) run(ctx context.Context, path string, c Command, args []string) int {
	loaded, err := Load(c.Settings, Sources{Args: args, Environ: p.Environ, Others: allSettings(p.Commands)}, c.Validate)
	if loaded.Help {
		p.help(path, c)
		return ExitOK
	}
	if err == nil && len(loaded.Args) > 0 && c.Args == "" {
		err = Usagef("unexpected argument %q", loaded.Args[0])
	}
	if err == nil && loaded.PrintConfig {
		err = loaded.Print(p.Stdout)
		return p.exit(path, err)
	}
	if err != nil {
		return p.exit(path, err)
	}

	ends := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	switch {
	case c.Hangup != nil:
		defer onHangup(c.Hangup)()
	case !signal.Ignored(syscall.SIGHUP): // as nohup wants it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, ends...)
	defer stop()
	// From the first signal on, signals do again what they do by default, so
	// that a second one ends a process that does not want to stop.
	context.AfterFunc(ctx, stop)
	err = c.Run(ctx, loaded.Args)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // it was told to stop, and did
	}
	return p.exit(path, err)
}

// onHangup calls do at each SIGHUP until it is stopped.
func onHangup(do func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range hangups {
			do()
		}
	}()
	return func() { signal.Stop(hangups); close(hangups); <-done }
}

func (p Program) exit(path string, err error) int {
	if err == nil {
		return ExitOK
	}
	fmt.Fprintf(p.Stderr, "%s: %s\n", path, Plain(err.Error()))
	if isUsage(err) {
		fmt.Fprintf(p.Stderr, "Run %q for help.\n", path+" --help")
		return ExitUsage
	}
	if code, ok := errors.AsType[CodeError](err); ok {
		return code.Code
	}
	return ExitError
}

// allSettings are those of every command, however deep.
func allSettings(commands []Command) []Setting {
	var all []Setting
	for _, c := range commands {
		all = append(all, c.Settings...)
		all = append(all, allSettings(c.Commands)...)
	}
	return all
}

func (p Program) usage(w io.Writer, path, summary string, commands []Command) {
	if summary != "" {
		fmt.Fprintf(w, "%s: %s\n\n", path, summary)
	}
	fmt.Fprintf(w, "Usage: %s COMMAND [flags]\n\nCommands:\n", path)
	if path == p.Name {
		commands = append(slices.Clone(commands), Command{Name: "version", Summary: "version and build information of this binary"})
	}
	width := 0
	for _, c := range commands {
		width = max(width, len(c.Name))
	}
	for _, c := range commands {
		fmt.Fprintf(w, "  %-*s  %s\n", width, c.Name, c.Summary)
	}
	fmt.Fprintf(w, "\nRun \"%s COMMAND --help\" for a command's settings.\n", path)
}

func (p Program) help(path string, c Command) {
	usage := path + " [flags]"
	if c.Args != "" {
		usage += " " + c.Args
	}
	fmt.Fprintf(p.Stdout, "%s: %s\n\nUsage: %s\n", path, c.Summary, usage)
	if c.Help != "" {
		fmt.Fprintf(p.Stdout, "\n%s\n", strings.TrimSpace(c.Help))
	}
	var configFile string
	var printConfig bool
	fmt.Fprint(p.Stdout, "\nSettings. Precedence: flag, environment variable [in brackets], configuration file, default.\n")
	writeFlags(p.Stdout, c.Settings)
	writeFlags(p.Stdout, builtin(&configFile, &printConfig))
}
