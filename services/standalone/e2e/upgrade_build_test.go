package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

// previousFile names the commit of the build before this one.
const previousFile = "services/standalone/e2e/testdata/previous-build"

// previousVersion is what the programs of the build before are told they are.
const previousVersion = "v0.0.0-e2e-previous"

// previousBuild is the folder with the collector and the exposer of the build
// before this one. They are built from the repository's history, once per
// machine, and kept where [testkit.Cache] says. Without the history the test
// cannot run.
func previousBuild(t *testing.T) string {
	t.Helper()
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, previousFile))
	if err != nil {
		t.Fatal(err)
	}
	commit, err := pinnedCommit(string(content))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := buildCommit(root, commit)
	if errors.Is(err, errNoHistory) {
		testkit.Missing(t, fmt.Sprintf("%v; %s names the commit; in a shallow clone git fetch --unshallow brings it, and an exported tree has no history", err, previousFile))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var fullHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// pinnedCommit reads a file with one commit and comments.
func pinnedCommit(content string) (string, error) {
	var found []string
	for line := range strings.Lines(content) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			found = append(found, line)
		}
	}
	if len(found) != 1 || !fullHash.MatchString(found[0]) {
		return "", fmt.Errorf("%s names %q; it must name one commit by its full hash of 40 hexadecimal digits", previousFile, found)
	}
	return found[0], nil
}

var errNoHistory = errors.New("the build before this one is not in the repository's history")

// buildCommit builds collector and exposer of a commit, unless that was done.
func buildCommit(root, commit string) (string, error) {
	// Git decides what is there: a worktree has a file for .git, and a folder of
	// that name may be another repository's.
	if _, err := git(root, nil, "cat-file", "-e", commit+"^{commit}"); err != nil {
		return "", fmt.Errorf("%w: %w", errNoHistory, err)
	}
	cache, err := testkit.Cache()
	if err != nil {
		return "", err
	}
	key := sha256.Sum256([]byte(strings.Join([]string{commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, previousVersion}, "\n")))
	dir := filepath.Join(cache, fmt.Sprintf("previous-%s-%x", commit[:12], key[:4]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unlock, err := testkit.Lock(filepath.Join(cache, "previous.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil { // another process built it while we waited
		return dir, nil
	}
	temporary, err := os.MkdirTemp("", "weir-previous-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(temporary) }() // it is a temporary folder
	tree := filepath.Join(temporary, "tree") + string(filepath.Separator)
	// An index of its own: the repository's stays as it is.
	index := "GIT_INDEX_FILE=" + filepath.Join(temporary, "index")
	if _, err := git(root, []string{index}, "read-tree", commit); err != nil {
		return "", err
	}
	if _, err := git(root, []string{index}, "checkout-index", "--all", "--prefix="+tree); err != nil {
		return "", err
	}
	// Built beside its place and moved there, so that an interrupted build leaves
	// nothing that looks like a program.
	next := dir + ".next"
	cmd := build(tree, next, previousVersion, "./services/collector/cmd/collector", "./services/exposer/cmd/exposer")
	// The tree's own workspace, and no repository to take a version from.
	cmd.Env = append(cmd.Env, "GOWORK="+filepath.Join(tree, "go.work"), "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the programs of commit %s: %w\n%s", commit, err, bytes.TrimSpace(out)), os.RemoveAll(next))
	}
	if err := os.Rename(next, dir); err != nil {
		return "", fmt.Errorf("build the programs of commit %s: %w", commit, err)
	}
	return dir, nil
}

// git runs git in the repository's root folder, and in no other repository.
func git(root string, environment []string, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", root}, args...)...)
	// A hook that runs tests has these set.
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "GIT_") {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	// The parent of an exported tree may be a repository.
	cmd.Env = append(append(cmd.Env, "GIT_CEILING_DIRECTORIES="+filepath.Dir(root)), environment...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// What names the build before cannot be misread.
func TestPinnedCommit(t *testing.T) {
	const hash = "4785400ca854635b4543f00b8fb018b75ef6ef28"
	for content, want := range map[string]string{
		"# why\n\n" + hash + "\n": hash,
		hash:                      hash,
		"4785400\n":               "",
		"":                        "",
		hash + "\n" + hash:        "",
		"--output=/etc/passwd\n":  "",
	} {
		got, err := pinnedCommit(content)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("pinnedCommit(%q) is %q, %v; want %q", content, got, err, want)
		}
	}
}
