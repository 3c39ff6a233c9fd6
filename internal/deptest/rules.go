package deptest

const (
	collector = "services/collector"
	exposer   = "services/exposer"
)

// drivers are the libraries that speak to a database.
var drivers = []string{
	"github.com/jackc/pgx/v5/...", "github.com/jackc/pgx/v4/...", "github.com/lib/pq/...", "modernc.org/sqlite/...",
	"github.com/mattn/go-sqlite3/...", "github.com/pressly/goose/v3/...",
}

// databases are drivers and the interface to them. In deep rules only the
// drivers are asked for: client_golang imports database/sql for a collector.
var databases = append([]string{"database/sql/..."}, drivers...)

// outside is what a pure package has no business with: everything that touches
// a network, a disk, a process, a clock of its own, or a log.
var outside = append([]string{
	"net", "net/http/...", "net/rpc/...", "os", "os/exec", "os/signal", "syscall", "log/...", "google.golang.org/grpc/...",
	"github.com/prometheus/client_golang/...", "internal/clock",
}, databases...)

// Rules are the import rules of the repository.
var Rules = []Rule{
	{
		Of:      []string{"internal/bucket"},
		Only:    []string{"std"},
		Because: "the domain depends on nothing, so that everything can depend on it",
	},
	{
		Of:      []string{"internal/bucket"},
		Never:   outside,
		Because: "the domain does no I/O",
	},
	{
		Of: []string{
			collector + "/internal/plan", collector + "/internal/settle", collector + "/internal/audit", collector + "/internal/jobs",
			"internal/sample", "internal/expo", "internal/counter", exposer + "/internal/recent", exposer + "/internal/statuspage", exposer + "/internal/selection",
			"services/standalone/internal/doctor",
		},
		Never:   outside,
		Because: "this is a pure core: all it knows comes in as arguments, which is what makes it testable at any moment of any day",
	},
	{
		// The catalogue reads its embedded files, so it may know io/fs and
		// embed; a folder of the user's own is opened by its caller.
		Of:      []string{collector + "/internal/catalogue"},
		Never:   append([]string{collector + "/internal/cloudflare"}, outside...),
		Because: "the catalogue says what is asked and what becomes of it; how it is sent is the client's matter",
	},
	{
		Of:      []string{collector + "/internal/yamlspec"},
		Never:   append([]string{"services/..."}, outside...),
		Because: "it decodes any file whose format is a struct; which file that is, and who reads it, is for its callers",
	},
	{
		Of:      []string{collector + "/internal/cloudflare"},
		Never:   []string{collector + "/internal/catalogue", collector + "/internal/store/...", exposer + "/..."},
		Because: "the API client knows documents, windows and errors but no metrics; poll is where catalogue and client meet",
	},
	{
		Of:      []string{"internal/cfsim/..."},
		Never:   []string{"services/...", "client/...", "internal/bucket", "internal/wire"},
		Because: "the simulator is written from how Cloudflare behaves, not from our client: it and what it tests must be able to disagree",
	},
	{
		Of:      []string{"internal/...", "migrations/..."},
		Except:  []string{"internal/deptest"},
		Never:   append([]string{"services/..."}, databases...),
		Because: "shared packages are below the services and in a module without database drivers, which the exposer requires",
	},
	{
		Of:      []string{"services/..."},
		Except:  []string{collector + "/internal/store/..."},
		Never:   databases,
		Because: "only a store driver speaks SQL; everyone else asks the store",
	},
	{
		Of:      []string{"services/..."},
		Except:  []string{collector},
		Never:   []string{collector + "/internal/store/postgres/...", collector + "/internal/store/sqlite/..."},
		Because: "drivers are chosen at the collector's door and nowhere else, so that both stay exchangeable",
	},
	{
		Of:      []string{collector + "/internal/store/postgres/...", collector + "/internal/store/sqlite/..."},
		Never:   []string{collector + "/internal/poll", collector + "/internal/plan", collector + "/internal/feed", collector + "/internal/bucketsvc", collector + "/internal/adminsvc"},
		Because: "a driver stores; what is stored when, and who reads it, is decided above it",
	},
	{
		Of:      []string{"internal/sample"},
		Only:    []string{"std", "internal/bucket"},
		Because: "what the samples of a bucket are depends on the bucket, and on no output",
	},
	{
		Of:      []string{exposer + "/internal/follow"},
		Never:   []string{exposer + "/internal/recent", "internal/expo", exposer + "/internal/view"},
		Because: "the stream is read once for all sinks and knows none of them",
	},
	{
		Of:      []string{exposer + "/internal/counters"},
		Never:   []string{exposer + "/internal/recent", exposer + "/internal/view", exposer + "/internal/web", exposer + "/internal/meter", "net/http"},
		Because: "counters read the log by themselves: what the replay shows, and how a page is sent, makes no difference to them",
	},
	{
		Of:      []string{exposer + "/..."},
		Never:   append([]string{collector + "/...", "services/standalone/...", "migrations/..."}, drivers...),
		Deep:    true,
		Because: "an exposer is stateless and knows a collector by its contract only",
	},
	{
		Of:      []string{collector + "/..."},
		Never:   []string{exposer + "/...", "services/standalone/..."},
		Deep:    true,
		Because: "a collector does not know who reads it",
	},
	{
		Of:      []string{"services/standalone/internal/push", "services/standalone/internal/deliver"},
		Never:   []string{collector + "/...", exposer + "/..."},
		Because: "a push is a reader like any other: it knows a collector by the contract and the public client only",
	},
	{
		Of: []string{"client/..."},
		Only: []string{
			"std", "client/...", "proto/...",
			"google.golang.org/grpc/...", "google.golang.org/protobuf/...", "google.golang.org/genproto/googleapis/rpc/...",
		},
		Because: "the public client costs its users the contract, gRPC and nothing more",
	},
	{
		Of:      []string{"proto/..."},
		Only:    []string{"std", "proto/...", "google.golang.org/grpc/...", "google.golang.org/protobuf/..."},
		Because: "the contract costs its users protobuf and gRPC and nothing more",
	},
	{
		Of:      []string{"internal/...", "client/...", "proto/...", "services/..."},
		Except:  []string{support},
		Never:   []string{"testing", support},
		Because: "what ships contains no test support; packages that are nothing else are called …test",
	},
	{
		Of: []string{"internal/...", "client/...", "proto/...", "services/..."},
		Never: []string{
			"github.com/stretchr/testify/...", "github.com/onsi/gomega/...", "github.com/sirupsen/logrus", "go.uber.org/zap/...",
			"github.com/spf13/cobra", "github.com/spf13/viper", "io/ioutil", "math/rand",
		},
		Because: "one way for each thing: testing and go-cmp, log/slog, internal/cli, math/rand/v2",
	},
}
