package testkit

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "testdata", "story.txt")
	if err := golden(path, []byte("one\n"), false); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("missing file: got error %v, want one that says so", err)
	}
	if err := golden(path, []byte("one\n"), true); err != nil {
		t.Fatal(err)
	}
	if err := golden(path, []byte("one\n"), false); err != nil {
		t.Errorf("equal content: %v", err)
	}
	if err := golden(path, []byte("two\n"), false); err == nil || !strings.Contains(err.Error(), "-update") {
		t.Errorf("other content: got error %v, want a diff and what to do", err)
	}
}

func TestNoLeaksSeesALeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	stop := make(chan struct{})
	go func() { <-stop }()
	if err := goleak.Find(before); err == nil {
		t.Error("a goroutine that waits forever was not found")
	}
	close(stop)
	NoLeaks(t)
}

// TestJanitorOutlivesAKill runs itself as a child that starts a janitor, kills
// it the hard way, and expects the janitor to have done its work.
func TestJanitorOutlivesAKill(t *testing.T) {
	if mark := os.Getenv("TESTKIT_JANITOR_MARK"); mark != "" {
		if _, err := StartJanitor(`echo "$1" >"$1.tmp" && mv "$1.tmp" "$1"`, mark); err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString("started\n")
		select {}
	}
	mark := filepath.Join(t.TempDir(), "mark")
	child := exec.Command(os.Args[0], "-test.run=^TestJanitorOutlivesAKill$")
	child.Env = append(os.Environ(), "TESTKIT_JANITOR_MARK="+mark)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
		t.Fatalf("child said %q, error %v", line, err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Fatal("the script ran while the process was alive")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // says "signal: killed"
	Eventually(t, func() error { _, err := os.Stat(mark); return err })
}
