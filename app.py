"""The playground in the browser: `streamlit run app.py`. Page set-up and navigation; the pages are in playground/ui/pages."""

import streamlit as st

from playground.ui.guard import guarded
from playground.ui.memory import spare_libraries
from playground.ui.sidebar import sidebar

st.set_page_config(page_title="Multi-token prediction playground", layout="wide")
page = st.navigation(
    [
        st.Page("playground/ui/pages/train.py", title="Train", default=True),
        st.Page("playground/ui/pages/compare.py", title="Compare", url_path="compare"),
        st.Page("playground/ui/pages/heads.py", title="Heads", url_path="heads"),
        st.Page("playground/ui/pages/lens.py", title="Lens", url_path="lens"),
        st.Page("playground/ui/pages/decode.py", title="Decode", url_path="decode"),
        st.Page("playground/ui/pages/about.py", title="About", url_path="about"),
    ]
)
guarded(sidebar)()
guarded(page.run)()
spare_libraries()
