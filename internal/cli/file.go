package cli

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/weir-metrics/weir/internal/smallfile"
	"github.com/weir-metrics/weir/internal/yamldoc"
)

// entry is one key of the configuration file.
type entry struct {
	line int
	node ast.Node
}

// readFile reads the top level of a YAML file: a mapping of settings' keys.
func readFile(path string) (map[string]entry, error) {
	content, err := smallfile.Read(path, smallfile.YAML)
	if err != nil {
		return nil, fmt.Errorf("read the configuration file: %w", err)
	}
	file, err := yamldoc.Parse(content)
	if err != nil {
		// Without the excerpt of the file, which may show a secret.
		return nil, fmt.Errorf("%s is not valid YAML: %s", path, yaml.FormatError(err, false, false))
	}
	entries := map[string]entry{}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return entries, nil
	}
	if len(file.Docs) > 1 {
		return nil, fmt.Errorf("%s has several YAML documents, want one", path)
	}
	var values []*ast.MappingValueNode
	switch body := file.Docs[0].Body.(type) {
	case *ast.MappingNode:
		values = body.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{body}
	case *ast.CommentGroupNode, *ast.NullNode:
	default:
		return nil, fmt.Errorf("%s is not a mapping of settings to values", path)
	}
	for _, value := range values {
		token := value.Key.GetToken()
		entries[token.Value] = entry{line: token.Position.Line, node: value.Value}
	}
	return entries, nil
}

// scalar returns a node as the text that an environment variable would have.
func scalar(node ast.Node) (text string, ok bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSuffix(n.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.NullNode:
		return "", true
	}
	return "", false
}

// sequence returns a list of scalars, written as an environment variable would
// have it: an element is one element, whatever is in it.
func sequence(node ast.Node) (text string, ok bool) {
	n, ok := node.(*ast.SequenceNode)
	if !ok {
		return "", false
	}
	elements := make([]string, len(n.Values))
	for i, value := range n.Values {
		if elements[i], ok = scalar(value); !ok {
			return "", false
		}
	}
	return joinList(elements), true
}
