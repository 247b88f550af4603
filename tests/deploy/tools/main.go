// Reads what is in deploy/ with the code that will read it.
//
//	tools compose FILE       prints a Compose file as the Compose specification's loader understands it, as JSON
//	tools objects FILE       prints the objects of Kubernetes in a stream of YAML, as JSON; those of Prometheus' operator
//	                         have to be of its own types, pods have to keep to the Pod Security Standard "restricted"
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	strict "sigs.k8s.io/yaml"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "compose":
		err = compose(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "objects":
		err = objects(os.Args[2])
	default:
		err = errors.New("usage: tools compose|objects FILE")
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

// objects prints the objects of a stream of YAML as a list, once each has been taken for what it is.
func objects(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	read := []map[string]any{}
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return json.NewEncoder(os.Stdout).Encode(read)
		} else if err != nil {
			return err
		}
		object := map[string]any{}
		if err := strict.UnmarshalStrict(document, &object); err != nil {
			return err
		}
		if len(object) == 0 {
			continue
		}
		if err := take(document, object["kind"]); err != nil {
			return fmt.Errorf("%s: %w", object["kind"], err)
		}
		read = append(read, object)
	}
}

// take reads a document as the types of whoever it is for, in which no unknown field has a place.
func take(document []byte, kind any) error {
	switch kind {
	case "ServiceMonitor":
		return strict.UnmarshalStrict(document, &monitoring.ServiceMonitor{})
	case "PrometheusRule":
		return strict.UnmarshalStrict(document, &monitoring.PrometheusRule{})
	case "Deployment":
		deployment := &apps.Deployment{}
		if err := strict.UnmarshalStrict(document, deployment); err != nil {
			return err
		}
		return restricted(&deployment.Spec.Template)
	case "StatefulSet":
		set := &apps.StatefulSet{}
		if err := strict.UnmarshalStrict(document, set); err != nil {
			return err
		}
		return restricted(&set.Spec.Template)
	}
	return nil
}

// restricted holds pods to the strictest of Kubernetes' Pod Security Standards, by what the API server itself asks.
func restricted(pod *core.PodTemplateSpec) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	level := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	if !result.Allowed {
		return errors.New(result.ForbiddenDetail())
	}
	return nil
}
