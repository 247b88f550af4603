// Reads what is in deploy/ with the code that will read it.
//
//	tools compose FILE       prints a Compose file as the Compose specification's loader understands it, as JSON
//	tools monitoring FILE    takes the objects of a stream of YAML that are Prometheus' operator's into its own types,
//	                         in which no unknown field has a place; prints how many
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "compose":
		err = compose(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "monitoring":
		err = operators(os.Args[2])
	default:
		err = errors.New("usage: tools compose|monitoring FILE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func compose(path string) error {
	// With no environment but a .env file beside it, as somebody has it who has just cloned the repository.
	options, err := cli.NewProjectOptions([]string{path}, cli.WithInterpolation(true), cli.WithConsistency(true))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

func operators(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	objects := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	read := 0
	for {
		object, err := objects.Read()
		if errors.Is(err, io.EOF) {
			fmt.Println(read)
			return nil
		} else if err != nil {
			return err
		}
		var header struct{ Kind string }
		if err := strict.Unmarshal(object, &header); err != nil {
			return err
		}
		var target any
		switch header.Kind {
		case "ServiceMonitor":
			target = &monitoring.ServiceMonitor{}
		case "PrometheusRule":
			target = &monitoring.PrometheusRule{}
		default:
			continue
		}
		if err := strict.UnmarshalStrict(object, target); err != nil {
			return fmt.Errorf("%s: %w", header.Kind, err)
		}
		read++
	}
}
