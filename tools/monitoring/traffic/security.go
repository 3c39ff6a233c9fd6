package traffic

import "github.com/grafana/grafana-foundation-sdk/go/units"

func security() board {
	const events, rules = "cloudflare_zone_firewall_events_by_action_source", "cloudflare_zone_firewall_events_by_rule"
	return board{
		name: "security", title: "Weir security",
		shows: "Security events by action, product, rule, host and country; bots, threats and refused requests; TLS.",
		rows: []row{
			{"In the time shown", []panel{
				amount("Security events", events, "events", []string{"firewall_events_1h"},
					"Events of all security products. A request can make several.", "what it was a week ago."),
				part("Blocked or challenged", events+`{action=~"block|drop|connection_close|(js|managed_)?challenge"}`, events, []string{"firewall_events_1h"},
					"Share of the events whose action stopped or questioned the request: blocked, dropped, closed, challenged. The others let it pass, logged it, or say that a challenge was solved.", "steady; it depends on your rules."),
				amount("Threats", "cloudflare_zone_threats", "threats", http,
					"Requests that Cloudflare classed as threats. It has deprecated the figure; Free zones have none.", "a small share of the requests."),
				part("Answered 403 or 429", status+`{status=~"403|429"}`, requests, http,
					"Share of the requests that were refused or limited.", "below some percent."),
				part("Over TLS", "cloudflare_zone_encrypted_requests", requests, http,
					"Share of the requests that came over TLS.", "above 95 % where plain HTTP is redirected."),
			}},
			{"Events", []panel{
				byLabel("Events by action", events, "action", "firewall_events_1h", units.EventsPerSecond,
					"Security events a second by action.", "a steady mix. A new peak of block or challenge is an attack, or a rule that hits visitors: see the rules below."),
				byLabel("Events by product", events, "source", "firewall_events_1h", units.EventsPerSecond,
					"Security events a second by the product that acted, such as firewallManaged, rateLimit, bic.", "a steady mix."),
				{
					title: "Rules", kind: list, unit: units.Short, datasets: []string{"firewall_rules_1h"},
					shows: "The fifty rules with most events in the time shown, by id: Security, Events in Cloudflare's dashboard finds it.", normal: "the rules that you know.",
					queries: []query{{"events", largest(50, "zone, action, source, rule", rules), ""}},
				},
				{
					title: "Hosts and countries", kind: list, unit: units.Short, datasets: []string{"firewall_rules_1h"},
					shows: "The fifty pairs of a host and a country with most security events in the time shown.", normal: "many countries with few events each. One that leads by far is where an attack comes from.",
					queries: []query{{"events", largest(50, "zone, host, country", rules), ""}},
				},
				ten("Events by zone", events, "zone", "firewall_events_1h", units.EventsPerSecond,
					"Security events a second by zone.", "in step with the zone's requests."),
				{
					title: "Refused and limited by zone", unit: units.PercentUnit, datasets: http,
					shows: "Share of the requests that were answered 403 or 429, of the ten zones with most requests.", normal: "steady, below some percent.",
					queries: []query{{"{{zone}}", top(10, "zone", share("zone", "RATE("+status+`{status=~"403|429"})`, "RATE("+requests+")"), requests), ""}},
				},
			}},
			{"Where from", []panel{
				{
					title: "Security events by country", kind: bubbles, unit: units.Short, datasets: []string{"firewall_rules_1h"}, width: 14,
					shows: "Security events in the time shown by country of the client.", normal: "spread as your visitors are, or wider.",
					queries: []query{{"events", sum("country", "TOTAL("+rules+")"), ""}},
				},
				{
					title: "Threats by country", kind: list, unit: units.Short, datasets: []string{"threat_countries_1h"}, width: 10, tall: true,
					shows: "Requests in the time shown that Cloudflare classed as threats, by country of the client. Deprecated at Cloudflare.", normal: "few, from many countries.",
					queries: []query{{"threats", total("country", "cloudflare_zone_threats_by_country"), ""}},
				},
			}},
			{"Bots and threats", []panel{
				byLabel("Requests by bot score", "cloudflare_zone_requests_by_bot_score", "bot_score", "bot_scores_1h", units.RequestsPerSecond,
					"Requests a second by group of bot scores: 1 is surely a program, 99 surely a person. Needs Bot Management.", "most above 30."),
				byLabel("Security events by bot score", "cloudflare_zone_firewall_events_by_bot_score", "bot_score", "firewall_bots_1h", units.EventsPerSecond,
					"Security events a second by group of bot scores. Needs Bot Management.", "most below 30: rules that act on higher scores hit people."),
				ten("Bots by country", "cloudflare_zone_requests_from_bots_by_country", "country", "bot_countries_1h", units.RequestsPerSecond,
					"Requests a second with a bot score from 1 to 29 by country of the client. Needs Bot Management.", "steady."),
				byLabel("Threats by type", "cloudflare_zone_requests_by_threat_type", "threat_type", "threat_types_1h", units.RequestsPerSecond,
					"Requests a second that Cloudflare classed as threats, by type.", "few."),
				byLabel("Requests by version of TLS", "cloudflare_zone_requests_by_tls_version", "tls_version", "tls_versions_1h", units.RequestsPerSecond,
					"Requests a second by version of TLS; none is plain HTTP.", "TLSv1.3 and TLSv1.2. Older ones disappear with the setting Minimum TLS Version."),
				byLabel("Turnstile", "cloudflare_account_turnstile_events", "event", "turnstile_1h", units.EventsPerSecond,
					"Events of Turnstile widgets a second by event, of all selected accounts.", "as many solved as issued, less a few."),
			}},
		},
	}
}
