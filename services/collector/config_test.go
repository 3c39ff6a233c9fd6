package collector

import (
	"strings"
	"testing"
)

func TestCheckProxies(t *testing.T) {
	for text, ok := range map[string]bool{
		"":                                     true,
		"proxy.example:3128":                   true,
		"http://proxy.example":                 true,
		"https://user:hunter2@proxy.example:1": true,
		"socks5://127.0.0.1:1080":              true,
		"user:hunter2@proxy.example:3128":      true,
		"http://user:hunter2@127.0.0.1:port":   false,
		"http://user:hunter2%zz@127.0.0.1":     false,
		"ftp://user:hunter2@proxy.example":     false,
		"http://":                              false,
	} {
		for _, variable := range []string{"https_proxy", "ALL_PROXY"} {
			err := checkProxies(func(name string) string {
				if name == variable {
					return text
				}
				return ""
			})
			if (err == nil) != ok || err != nil && (!strings.Contains(err.Error(), variable) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("%s=%q: error is %v, want one: %t", variable, text, err, !ok)
			}
		}
	}
}
