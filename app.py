"""The playground in the browser: `streamlit run app.py`. The server, page set-up and navigation; pages: playground/ui/*/.

Streamlit imports this file once for the server, `app`, and then runs it as a script, `__main__`, each time it draws a page.
"""

import streamlit as st

if __name__ != "__main__":
    from playground.ui.shared.server import GUARDED, browser_opened

    app = st.App(__file__, middleware=GUARDED, lifespan=browser_opened)
else:
    from playground.ui.shared.guard import guarded
    from playground.ui.shared.memory import spare_libraries
    from playground.ui.shared.sidebar import sidebar

    st.set_page_config(page_title="Multi-token prediction playground", layout="wide")
    page = st.navigation(
        [
            st.Page("playground/ui/train/train.py", title="Train", default=True),
            st.Page("playground/ui/compare/compare.py", title="Compare", url_path="compare"),
            st.Page("playground/ui/heads/heads.py", title="Heads", url_path="heads"),
            st.Page("playground/ui/probes/probes.py", title="Probes", url_path="probes"),
            st.Page("playground/ui/lens/lens.py", title="Lens", url_path="lens"),
            st.Page("playground/ui/decode/decode.py", title="Decode", url_path="decode"),
            st.Page("playground/ui/about/about.py", title="About", url_path="about"),
        ]
    )
    guarded(page.run)()
    guarded(sidebar)()  # last: with many runs it takes longer than a page's title
    spare_libraries()
