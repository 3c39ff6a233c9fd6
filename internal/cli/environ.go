package cli

import (
	"regexp"
	"strconv"
	"strings"
)

// environment is the part of a process's environment that concerns settings.
type environment map[string]string

func readEnvironment(environ []string) environment {
	env := environment{}
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		clean := printable(name)
		if ok && (strings.HasPrefix(clean, "WEIR_") || strings.HasPrefix(clean, "CF_")) {
			env[name] = value
		}
	}
	return env
}

// notSettings are variables of the WEIR_ kind that something else than a
// service reads.
var notSettings = map[string]bool{
	"WEIR_TOOLS_DIR": true, // where make test keeps what it built
}

// unknown returns a problem for each variable that no command knows. All of
// WEIR_ is ours, so there anything unknown is a mistake. CF_ belongs to others
// too (Cloudflare's own tools, Cloud Foundry), so there only a near miss is.
func (env environment) unknown(known []string) Problems {
	isKnown := make(map[string]bool, len(known))
	for _, name := range known {
		isKnown[name] = true
	}
	var problems Problems
	for _, name := range sortedKeys(env) {
		if isKnown[name] || notSettings[name] || serviceLink(name, env[name]) {
			continue
		}
		if clean := printable(name); clean != name {
			problems = append(problems, Problem{Setting: strconv.Quote(name), Source: "environment", Reason: "unknown setting, with invisible characters in its name" + suggest(clean, known)})
			continue
		}
		if strings.HasPrefix(name, "WEIR_") {
			problems = append(problems, Problem{Setting: name, Source: "environment", Reason: "unknown setting" + suggest(name, known)})
			continue
		}
		if near := nearest(name, known, 2); near != "" {
			problems = append(problems, Problem{Setting: name, Source: "environment", Reason: "unknown setting; did you mean " + near + "?"})
		}
	}
	return problems
}

// Kubernetes gives every container variables about the services of its
// namespace, and one called weir-collector gives WEIR_COLLECTOR_SERVICE_HOST
// and so on.
var (
	linkByName  = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)
	linkByValue = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

func serviceLink(name, value string) bool {
	return linkByName.MatchString(name) || strings.HasSuffix(name, "_PORT") && linkByValue.MatchString(value)
}
