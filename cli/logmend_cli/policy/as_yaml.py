"""Print an assignment as YAML."""


def as_yaml(document: dict[str, object]) -> str:
    """Print YAML for people: scripts as blocks, keys in their order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    printed: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    return printed
