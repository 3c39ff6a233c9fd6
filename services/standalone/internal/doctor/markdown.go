package doctor

import (
	"fmt"
	"strings"
)

// Markdown is the tables of the checks and of the questions for the documentation.
func Markdown() (checks, questions string) {
	var b strings.Builder
	b.WriteString("| check | what is asked |\n| --- | --- |\n")
	for _, c := range Checks {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.ID, c.Asks)
	}
	checks = b.String()
	b.Reset()
	b.WriteString("| question | evidence |\n| --- | --- |\n")
	for _, q := range Questions {
		fmt.Fprintf(&b, "| `%s`: %s | %s |\n", q.ID, q.Asks, q.Evidence)
	}
	return checks, b.String()
}
