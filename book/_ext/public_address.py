"""Repository, Colab and Binder buttons once the book has a public address, none before."""

import os


def add_buttons(app, config):
    """The address comes from BOOK_REPOSITORY_URL, else from `public_address` in _config.yml."""
    address = os.environ.get("BOOK_REPOSITORY_URL") or config.public_address
    if address:
        config.html_theme_options = {
            **config.html_theme_options,
            "repository_url": address.rstrip("/").removesuffix(".git"),
            "repository_branch": "main",
            "path_to_docs": "",
            "use_repository_button": True,
            "use_issues_button": True,
            "launch_buttons": {
                "colab_url": "https://colab.research.google.com",
                "binderhub_url": "https://mybinder.org",
                "notebook_interface": "jupyterlab",
            },
        }


def setup(app):
    app.add_config_value("public_address", "", "html")
    app.connect("config-inited", add_buttons)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
