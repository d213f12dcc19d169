"""The Streamlit app: state, cached loaders, widgets and pages."""
