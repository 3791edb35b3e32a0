// SPDX-License-Identifier: Apache-2.0

// Package settings gives a command's flags their values from the environment and from a YAML file too.
// The flags are the one definition of every setting: --node-name is KORAT_NODE_NAME in the environment
// and node-name in the file. The command line wins over the environment, and that over the file.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// Config is the name of the flag that names the file. It can be set on the command line only.
const Config = "config"

// EnvName gives the environment variable of a flag: KORAT_NODE_NAME for node-name.
func EnvName(flag string) string {
	return "KORAT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Fill sets the flags that the command line left alone from the environment, then from the file.
// The file must exist only if --config asked for it.
func Fill(flags *pflag.FlagSet, file string, lookup func(string) (string, bool)) error {
	values, err := readFile(file, flags)
	if err != nil {
		return err
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || special(f.Name) {
			return
		}
		if text, ok := lookup(EnvName(f.Name)); ok {
			errs = append(errs, set(flags, f.Name, text, "environment variable "+EnvName(f.Name)))
		} else if text, ok := values[f.Name]; ok {
			errs = append(errs, set(flags, f.Name, text, "file "+file+", key "+f.Name))
		}
	})
	return errors.Join(errs...)
}

func special(name string) bool { return name == Config || name == "help" }

func set(flags *pflag.FlagSet, name, text, source string) error {
	if err := flags.Set(name, text); err != nil {
		return fmt.Errorf("%s: %q: %w", source, text, err)
	}
	return nil
}

func readFile(file string, flags *pflag.FlagSet) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !flags.Changed(Config) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	values, err := parse(data, flags)
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", file, err)
	}
	return values, nil
}

// parse reads a flat YAML mapping of flag names to scalars or lists of scalars.
func parse(data []byte, flags *pflag.FlagSet) (map[string]string, error) {
	var raw map[string]any
	if err := yaml.UnmarshalStrict(data, &raw); err != nil {
		return nil, err
	}
	values := map[string]string{}
	for key, v := range raw {
		if flags.Lookup(key) == nil || special(key) {
			return nil, fmt.Errorf("unknown key %q: the keys are the names of flags, which --help lists", key)
		}
		text, err := scalar(v)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
		values[key] = text
	}
	return values, nil
}

// scalar gives the text that the flag would be set to.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errors.New("has no value")
	case map[string]any:
		return "", errors.New("want one value or a list")
	case []any:
		words := make([]string, 0, len(v))
		for _, item := range v {
			word, err := scalar(item)
			if err != nil {
				return "", err
			}
			words = append(words, word)
		}
		return strings.Join(words, ","), nil
	default:
		return fmt.Sprint(v), nil
	}
}
