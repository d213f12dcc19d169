"""The campaign's pages are opened as those of the app's tests are."""

from tests.ui.conftest import no_search_for_components

__all__ = ["no_search_for_components"]
