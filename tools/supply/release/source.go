package release

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Source is the commit that a release is made of.
type Source struct {
	Version  string // without v
	Revision string
	Time     time.Time
}

// Tag is the one of the whole repository.
func (s Source) Tag() string { return "v" + s.Version }

// Tags are those of a release: the repository's and one for each library module.
func (s Source) Tags() []string {
	tags := []string{s.Tag()}
	for _, folder := range Library {
		tags = append(tags, folder+"/"+s.Tag())
	}
	return tags
}

// Tagged returns the commit that is checked out in a repository, if it is what the tag
// says: nothing is changed or new beside it, and the tags of the release, as far as they
// exist, name it. The tag itself must.
func Tagged(root, tag string) (Source, error) {
	version, ok := strings.CutPrefix(tag, "v")
	if !ok || !plain.MatchString(version) {
		return Source{}, fmt.Errorf("VERSION is %q, want vX.Y.Z", tag)
	}
	changed, err := git(root, "status", "--porcelain", "--untracked-files=normal")
	if err != nil {
		return Source{}, err
	}
	if changed != "" {
		return Source{}, fmt.Errorf("the tree is not that of a commit; commit, remove or stash:\n%s", changed)
	}
	head, err := git(root, "rev-parse", "HEAD")
	if err != nil {
		return Source{}, err
	}
	s := Source{Version: version, Revision: head}
	for i, t := range s.Tags() {
		at, err := git(root, "rev-parse", "--verify", "--quiet", "refs/tags/"+t+"^{commit}")
		switch {
		case err != nil && i == 0:
			return Source{}, fmt.Errorf("there is no tag %s: git tag %s", t, t)
		case err == nil && at != head:
			return Source{}, fmt.Errorf("the tag %s is at %.12s, and %.12s is checked out", t, at, head)
		}
	}
	return At(root, head, version)
}

// At returns a commit of a repository as the source of a version, without asking whether it is
// the one that is released so.
func At(root, revision, version string) (Source, error) {
	text, err := git(root, "show", "--no-patch", "--format=%H %ct", revision+"^{commit}")
	if err != nil {
		return Source{}, err
	}
	hash, seconds, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return Source{}, fmt.Errorf("time of the commit %s: %w", hash, err)
	}
	return Source{Version: version, Revision: hash, Time: time.Unix(n, 0).UTC()}, nil
}

func git(root string, args ...string) (string, error) {
	var out, problems bytes.Buffer
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), errors.Join(err, errors.New(strings.TrimSpace(problems.String()))))
	}
	return strings.TrimSpace(out.String()), nil
}
