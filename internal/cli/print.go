package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// Print writes the settings in force as a configuration file, each with its
// source. Secrets are comments, so that the output can be used as it is.
func (l *Loaded) Print(w io.Writer) error {
	out := &errWriter{w: w}
	for _, o := range l.options {
		from := l.origins[o]
		source := from.source
		if source == "environment" || source == "flag" {
			source += " " + from.spelt
		}
		switch {
		case o.Key == "":
			out.printf("# --%s %s  # %s\n", o.Flag, o.Value, source)
		case o.secret() && from.fromRef:
			out.printf("%s_file: %s  # %s\n", o.Key, quote(from.text), source)
		case o.secret():
			out.printf("# %s: %s  # %s\n", o.Key, o.Value, source)
		case o.tree():
			if o.Value.String() == "" {
				out.printf("# %s:  # %s\n", o.Key, source)
				continue
			}
			out.printf("%s:  # %s\n%s", o.Key, source, indent(o.Value.String()))
		case from.source == defaults && o.Default == "":
			// Left out, which may stand for something that cannot be said.
			out.printf("# %s:  # not set\n", o.Key)
		default:
			out.printf("%s: %s  # %s\n", o.Key, quote(o.Value.String()), source)
		}
	}
	return out.err
}

// quote writes a text as a YAML scalar that reads back as the same text. A
// number or a boolean may stay bare, since settings are read as text.
func quote(text string) string {
	bare := text != "" && text != "null" && text != "~" && strings.IndexFunc(text, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,%/_-+", r)
	}) < 0 && !strings.HasPrefix(text, "-") && !strings.HasPrefix(text, "%") && !strings.HasPrefix(text, ",")
	if bare {
		return text
	}
	out, err := yaml.MarshalWithOptions(text, yaml.JSON())
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}

// writeFlags writes the reference of a table of settings for --help: the flag,
// then what it means, then its other names, default and range.
func writeFlags(w io.Writer, settings []Setting) {
	for _, o := range options(settings) {
		var name string
		switch {
		case o.Flag == "":
			name = "  " + o.Key + " (in the file)"
		case o.secret():
			name = "  --" + o.Flag + "-file"
		default:
			name = "  --" + o.Flag
		}
		fmt.Fprintln(w, name)
		fmt.Fprintln(w, wrap(o.Help+detail(o), "        ", 96))
	}
}

func detail(o *option) string {
	var b strings.Builder
	if _, plain := o.Value.(*text); !plain || o.Value.Allowed() != "text" {
		b.WriteString("; " + o.Value.Allowed())
	}
	if o.Default != "" {
		b.WriteString("; default " + o.Default)
	}
	if o.Required {
		b.WriteString("; required")
	}
	var names []string
	if o.Env != "" {
		names = append(names, o.Env)
		if o.secret() {
			names = append(names, o.Env+"_FILE")
		}
	}
	if len(names) > 0 {
		b.WriteString(" [" + strings.Join(names, ", ") + "]")
	}
	return b.String()
}

// wrap breaks text at spaces into lines of at most width letters, margin
// included.
func wrap(text, margin string, width int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		length := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			b.WriteString(margin)
			column = len(margin)
		case column+1+length > width:
			b.WriteString("\n" + margin)
			column = len(margin)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}

// WriteMarkdown writes a table of settings as a Markdown table, for
// docs/flags.md.
func WriteMarkdown(w io.Writer, settings []Setting) error {
	out := &errWriter{w: w}
	out.printf("| setting | flag | key in the file | default | allowed | meaning |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, o := range options(settings) {
		env, flag, key := o.Env, o.Flag, o.Key
		if flag != "" {
			flag = "--" + flag
		}
		cells := []string{code(env), code(flag), code(key)}
		if o.secret() {
			cells = []string{codes(env, "_FILE"), code(flag + "-file"), codes(key, "_file")}
		}
		meaning := o.Help
		if o.Required {
			meaning += " (required)"
		}
		cells = append(cells, code(o.Default), o.Value.Allowed(), meaning)
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		out.printf("| %s |\n", strings.Join(cells, " | "))
	}
	return out.err
}

func code(name string) string {
	if name == "" {
		return ""
	}
	return "`" + name + "`"
}

func codes(name, suffix string) string {
	if name == "" {
		return ""
	}
	return code(name) + ", " + code(name+suffix)
}

// errWriter keeps the first error of many prints.
type errWriter struct {
	w   io.Writer
	err error
}

func (w *errWriter) printf(format string, args ...any) { fmt.Fprintf(w, format, args...) }

// Write implements io.Writer.
func (w *errWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		_, w.err = w.w.Write(p)
	}
	return len(p), w.err
}
