package image

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Stage is an image as the Dockerfile describes it.
type Stage struct {
	// Name is what --target calls it.
	Name string
	// Labels are without those of a single build: version, revision, created.
	Labels map[string]string
	// Files are taken from the context.
	Files []File
	// User is a number, or two with a colon. Empty: root.
	User string
	// Dir is the working directory.
	Dir             string
	Ports, Volumes  []string
	Entrypoint, Cmd []string
}

// File is a file or a folder, with an absolute path in the image.
type File struct {
	From, To string
	// Owner is a number and, after a colon, that of the group. Empty: root.
	Owner string
}

// Parse reads the stages of a Dockerfile. What it does not know, it refuses: an image
// must not depend on what has made it.
func Parse(text string) ([]Stage, error) {
	var stages []Stage
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		if word == "FROM" {
			base, name, _ := strings.Cut(rest, " AS ")
			if base != "scratch" {
				return nil, fmt.Errorf("%s is made from %s; scratch is wanted", name, base)
			}
			if name == "" {
				return nil, fmt.Errorf("%s: the stage has no name", line)
			}
			stages = append(stages, Stage{Name: name, Labels: map[string]string{}})
			continue
		}
		if len(stages) == 0 {
			return nil, fmt.Errorf("%s: no stage has begun", line)
		}
		if err := stages[len(stages)-1].add(word, rest); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	return stages, nil
}

func (s *Stage) add(word, rest string) (err error) {
	switch word {
	case "LABEL":
		return s.label(rest)
	case "COPY":
		return s.copy(strings.Fields(rest))
	case "USER":
		s.User = rest
	case "WORKDIR":
		s.Dir = rest
	case "EXPOSE":
		s.Ports = append(s.Ports, strings.Fields(rest)...)
	case "VOLUME":
		s.Volumes = append(s.Volumes, strings.Fields(rest)...)
	case "ENTRYPOINT":
		s.Entrypoint, err = list(rest)
	case "CMD":
		s.Cmd, err = list(rest)
	default:
		return fmt.Errorf("%s is not expected in an image of one binary", word)
	}
	return err
}

var label = regexp.MustCompile(`^([a-z0-9.]+)=(".*")$`)

func (s *Stage) label(text string) error {
	m := label.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf(`a label is written as name="value", one a line`)
	}
	value, err := strconv.Unquote(m[2])
	if err != nil {
		return fmt.Errorf("value of a label: %w", err)
	}
	s.Labels[m[1]] = value
	return nil
}

func (s *Stage) copy(words []string) error {
	var f File
	for len(words) > 0 && strings.HasPrefix(words[0], "--") {
		owner, ok := strings.CutPrefix(words[0], "--chown=")
		if !ok {
			return fmt.Errorf("%s: nothing comes from another image, and modes are those of the context", words[0])
		}
		f.Owner, words = owner, words[1:]
	}
	if len(words) != 2 || !path.IsAbs(words[1]) || strings.HasSuffix(words[1], "/") {
		return fmt.Errorf("one file and its whole path in the image are wanted")
	}
	f.From, f.To = words[0], words[1]
	s.Files = append(s.Files, f)
	return nil
}

func list(text string) (words []string, err error) {
	if err := json.Unmarshal([]byte(text), &words); err != nil {
		return nil, fmt.Errorf("needs a shell, and there is none: %w", err)
	}
	return words, nil
}
