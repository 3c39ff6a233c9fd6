package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
)

// One person on one machine can use the commands of operators without making a token:
// weir run creates one beside its SQLite file, which only that user can read, and the
// commands find it there. Everything that they change, or were refused, is on the record.
func TestBinaryOperatesAllInOne(t *testing.T) {
	t.Parallel()
	sim := simulate(t, nil)
	var shop string
	for _, z := range sim.Zones() {
		if z.Name == "shop.example" {
			shop = z.ID
		}
	}
	if _, err := sim.Inject(cfsim.Fault{Kind: cfsim.FaultPartial, Zone: shop, Dataset: "httpRequests1mGroups"}); err != nil {
		t.Fatal(err)
	}
	data, ops, collectorOps, admin := address(t), address(t), address(t), address(t)
	settings := []string{
		"CF_API_TOKEN=" + apiToken, "WEIR_CLOUDFLARE_URL=" + sim.url, "WEIR_INITIAL_LOOKBACK=3h", "WEIR_GRPC_LISTEN=" + admin,
		"WEIR_EXPOSER_LISTEN=" + data, "WEIR_EXPOSER_OPS_LISTEN=" + ops, "WEIR_COLLECTOR_OPS_LISTEN=" + collectorOps,
	}
	p := launch(t, "weir", command(t, program(t, "weir"), settings, "run"))
	run := func(args ...string) outcome {
		t.Helper()
		cmd := command(t, program(t, "weir"), []string{"WEIR_COLLECTOR_ADDRESS=" + admin}, args...)
		cmd.Dir = p.cmd.Dir
		return complete(t, cmd)
	}
	testkit.Eventually(t, func() error {
		if err := p.running(); err != nil {
			return err
		}
		if o := run("gaps", "list", "--dataset", "http_5m"); o.code != 0 || !hasLine(o.stdout, "http_5m", "shop.example", "missing") || hasLine(o.stdout, "checkout.example") {
			return fmt.Errorf("gaps list: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
		}
		body, err := page("http://" + data + "/backfill?hours=3&dataset=http_5m")
		if err != nil || !strings.Contains(body, `zone="checkout.example"`) {
			return fmt.Errorf("nothing of checkout.example is stored yet (%w)", err)
		}
		return nil
	})

	file := filepath.Join(p.cmd.Dir, "weir.db.admin-token")
	token, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token file: %v, %v; want mode 0600", info.Mode(), err)
	}
	if secret := strings.TrimSpace(string(token)); len(secret) < 32 || strings.Contains(p.output.String()+p.log.String(), secret) {
		t.Error("the admin token is short, or was logged")
	}

	now := time.Now().UTC()
	span := []string{"--start", now.Add(-150 * time.Minute).Format(time.RFC3339), "--end", now.Add(-time.Hour).Format(time.RFC3339)}
	why := []string{"--reason", "the zone was being moved", "--requester", "ada"}
	with := func(command []string, more ...[]string) []string {
		for _, m := range more {
			command = append(command, m...)
		}
		return command
	}
	for _, step := range []struct {
		name string
		args []string
		code int
		says []string // in one line of either output
	}{
		{"no events yet", []string{"audit", "list"}, 0, []string{"no audit events"}},
		{"no reason", with([]string{"gaps", "accept"}, span), 2, []string{"reason"}},
		{"a range the wrong way round", with([]string{"gaps", "accept", "--start", "2026-11-02", "--end", "2026-11-01"}, why), 2, []string{"--start", "before --end"}},
		{"a zone that is none", with([]string{"gaps", "accept", "--zone", "shoop.example"}, span, why), 1, []string{"shoop.example", "no zone of that name"}},
		{"a dry run", with([]string{"gaps", "accept", "--dataset", "http_5m", "--zone", "shop.example", "--dry-run"}, span, why), 0, []string{"dry run: nothing was changed"}},
		{"still none", []string{"audit", "list"}, 0, []string{"no audit events"}},
		{"accept", with([]string{"gaps", "accept", "--dataset", "http_5m", "--zone", "shop.example"}, span, why), 0, []string{"accepted; audit event "}},
		{"what is accepted", []string{"gaps", "list", "--zone", "shop.example", "--decided"}, 0, []string{"http_5m", "shop.example", "accepted"}},
		{"accept again", with([]string{"gaps", "accept", "--dataset", "http_5m", "--zone", "shop.example"}, span, why), 1, []string{"nothing of the selection is missing", "REFUSED"}},
		{"restate", with([]string{"restate", "--dataset", "http_5m", "--zone", "checkout.example"}, span, why), 0, []string{"windows are equal"}},
		{"events", []string{"audit", "list"}, 0, []string{"gaps_accepted", "ada", "the zone was being moved", "refused: nothing of the selection is missing"}},
	} {
		if o := run(step.args...); o.code != step.code || !hasLine(o.stdout+o.stderr, step.says...) {
			t.Errorf("%s: exit code %d, want %d with %q\n%s%s", step.name, o.code, step.code, step.says, o.stdout, o.stderr)
		}
	}

	// For programs: the response as the API has it, newest first.
	var listed struct {
		Events []struct {
			Event struct{ Action, Actor, Refused string }
		}
	}
	if o := run("audit", "list", "--output", "json"); o.code != 0 || json.Unmarshal([]byte(o.stdout), &listed) != nil || len(listed.Events) != 3 ||
		listed.Events[0].Event.Action != "ACTION_RESTATED" || listed.Events[1].Event.Refused == "" || listed.Events[2].Event.Actor != "ada" {
		t.Errorf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if body, err := page("http://" + data + "/backfill?hours=3&dataset=http_5m&as=restated"); err != nil || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("/backfill?as=restated: %v", err)
	}

	// Elsewhere there is no token, and nothing is allowed without one.
	stranger := complete(t, command(t, program(t, "weir"), []string{"WEIR_COLLECTOR_ADDRESS=" + admin}, "audit", "list"))
	if stranger.code != 1 || !hasLine(stranger.stderr, "admin access is refused", "WEIR_COLLECTOR_TOKEN_FILE") {
		t.Errorf("without a token: exit code %d\n%s%s", stranger.code, stranger.stdout, stranger.stderr)
	}
	// A taken port is an error that names the setting.
	second := complete(t, command(t, program(t, "weir"), append(settings[:3:3],
		"WEIR_GRPC_LISTEN="+admin, "WEIR_EXPOSER_LISTEN="+address(t), "WEIR_EXPOSER_OPS_LISTEN="+address(t), "WEIR_COLLECTOR_OPS_LISTEN="+address(t)), "run"))
	if second.code != 1 || !hasLine(second.stderr, "WEIR_GRPC_LISTEN", "address already in use") {
		t.Errorf("a second process on the same port: exit code %d\n%s", second.code, second.stderr)
	}
	p.stop()

	// A file that others can read is not used.
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, program(t, "weir"), settings, "run")
	cmd.Dir = p.cmd.Dir
	if open := complete(t, cmd); open.code != 1 || !hasLine(open.stderr, "admin-token", "0644", "chmod 600") {
		t.Errorf("a token that others can read: exit code %d\n%s", open.code, open.stderr)
	}
}
