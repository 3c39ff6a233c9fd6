package collector_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
)

// TestRolesDocument does what the chapter about roles in docs/operations.md
// says, in its order, on a server that asks for passwords.
func TestRolesDocument(t *testing.T) {
	page := testkit.RepoFile(t, "docs/operations.md")
	_, chapter, found := strings.Cut(string(page), "\n### Database roles, TLS and rotation\n")
	if !found {
		t.Fatal("docs/operations.md has no chapter about roles")
	}
	chapter, _, _ = strings.Cut(chapter, "\n## ")

	server := pgtest.Start(t)
	dsn := server.DSN()
	server.Authenticate("host all all 127.0.0.1/32 scram-sha-256")
	folder := t.TempDir()
	url := func(name, role, password string) {
		testkit.WriteFile(t, filepath.Join(folder, name), []byte(strings.Replace(dsn, "postgres@", role+":"+password+"@", 1)))
	}
	url("owner.url", "weir_owner", "one")
	url("writer.url", "weir_writer", "two")
	opens := func() error {
		config, err := load("WEIR_DATABASE_URL_FILE=" + filepath.Join(folder, "writer.url"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := collector.New(t.Context(), config, collector.Deps{})
		if err != nil {
			return err
		}
		return c.Close()
	}
	migrated, ran, changed := 0, 0, 0
	for block := range strings.SplitSeq(chapter, "\n```") {
		info, text, _ := strings.Cut(block, "\n")
		kind, _, _ := strings.Cut(info, " ")
		switch kind {
		case "psql":
			pgtest.Exec(t, server.Local(dsn), text)
			if strings.HasPrefix(text, "ALTER ROLE") {
				changed++
				if err := opens(); err == nil {
					t.Error("the old password still works")
				}
				url("writer.url", "weir_writer", "four")
				if err := opens(); err != nil {
					t.Errorf("with the changed password: %v", err)
				}
			}
		case "sh":
			for line := range strings.Lines(text) {
				environ, command, ok := strings.Cut(strings.TrimSpace(line), " collector ")
				if !ok {
					t.Errorf("not a collector's command: %s", line)
				}
				name, file, _ := strings.Cut(environ, "=")
				if args := strings.Fields(command); args[0] == "migrate" && name == "WEIR_DATABASE_URL_FILE" {
					for range 2 { // it may be repeated
						if code, said := migrate(t, []string{name + "=" + filepath.Join(folder, file)}, args[1:]...); code != cli.ExitOK {
							t.Fatalf("%s: exit code %d, %s", line, code, said)
						}
					}
					migrated++
				} else if args[0] == "run" {
					if err := opens(); err != nil {
						t.Errorf("%s: %v", line, err)
					}
					ran++
				}
			}
		}
	}
	if migrated != 1 || ran != 1 || changed != 1 {
		t.Errorf("the chapter migrates %d times, runs %d times, changes a password %d times; want each once", migrated, ran, changed)
	}
}
